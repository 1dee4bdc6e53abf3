/* The fuzzer's target: every input is decoded by every instruction set, from and into allocations of exactly the right
   length, and all must say the same.  tools/fuzz builds it with clang, libFuzzer and sanitizers, and runs it.

   ZIPFS_FUZZ_CODEC=bitx, standalone or blocks keeps to one decoder, ZIPFS_FUZZ_ISA to the instruction sets up to one, and
   ZIPFS_FUZZ_TELL=1 prints what each input is found to be.  With the arguments `seeds FOLDER COUNT` it writes inputs
   that are right, but for one that is empty, and ends. */
#include <stdio.h>
#include <stdlib.h>

#include "dispatch.h"
#include "fuzz_input.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

enum { CODECS = 3 };

static int codec_wanted = -1;
static int last_isa;
static int telling;

static const int codecs[CODECS] = {FUZZ_BITX, FUZZ_STANDALONE, FUZZ_BLOCKS};

static const char *name_of(int codec) {
    return codec == FUZZ_BITX ? "bitx" : codec == FUZZ_STANDALONE ? "standalone" : "blocks";
}

static void fail(const char *what, int isa, const char *first, const char *other) {
    fprintf(stderr, "DISAGREEMENT: %s: portable says '%s', %s says '%s'\n", what, first == NULL ? "right" : first,
            zf_isa_name(isa), other == NULL ? "right" : other);
    abort();
}

uint8_t *fuzz_allocate(size_t n) {
    uint8_t *room = malloc(n ? n : 1);
    if (room == NULL)
        abort();
    return n ? room : room + 1;
}

void fuzz_free(uint8_t *bytes, size_t n) { free(n ? bytes : bytes - 1); }

void fuzz_make_base(fuzz_head head, int layout, uint8_t *base) {
    static const uint8_t steps[16] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 6, 11};
    const zf_layout *fields = &zf_layouts[layout];
    const unsigned width = 8u * fields->nbytes, mantissa = fields->mantissa_bits;
    const unsigned middle = fields->exponent_bits ? 1u << (fields->exponent_bits - 1) : 0;
    for (size_t at = 0, n = 0; at < head.nbytes; at += fields->nbytes, n++) {
        const uint64_t bits = fuzz_hash(head.seed, n);
        const unsigned step = steps[bits >> 60];
        uint64_t item = bits;
        if (head.base_kind >= FUZZ_BASE_WEIGHTS && !middle)
            item = bits & 63;
        else if (head.base_kind >= FUZZ_BASE_WEIGHTS)
            item = (bits & ((UINT64_C(1) << mantissa) - 1)) |
                   (uint64_t)(middle > 1 + step ? middle - 1 - step : 0) << mantissa | (bits >> 59 & 1) << (width - 1);
        if (head.base_kind == FUZZ_BASE_HALVES)
            item = item >> width / 2 << width / 2;
        if (head.base_kind == FUZZ_BASE_ZERO)
            item = 0;
        memcpy(base + at, &item, head.nbytes - at < fields->nbytes ? head.nbytes - at : fields->nbytes);
    }
}

static uint8_t filling(int isa) { return (uint8_t)(0xA5 + isa); }

/* Also what was refused must be the same as far as it was decoded.  What was accepted must be written in full, and each
   buffer was filled with another byte before. */
__attribute__((no_sanitize("address"))) static int same(const uint8_t *first, const uint8_t *other, size_t nbytes,
                                                        int isa, int refused) {
    if (!refused)
        return !nbytes || !memcmp(first, other, nbytes);
    unsigned differ = 0;
    for (size_t k = 0; k < nbytes; k++)
        differ |= first[k] != other[k] && !(first[k] == filling(0) && other[k] == filling(isa));
    return !differ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < FUZZ_HEAD)
        return 0;
    const fuzz_head head = fuzz_get_head(data);
    const size_t payload_nbytes = size - FUZZ_HEAD;
    uint8_t *payload = fuzz_allocate(payload_nbytes), *base = NULL, *first = NULL;
    const char *wrong = NULL;
    memcpy(payload, data + FUZZ_HEAD, payload_nbytes);
    if (head.codec == FUZZ_BITX) {
        base = fuzz_allocate(head.nbytes);
        fuzz_make_base(head, fuzz_layout(payload, payload_nbytes), base);
    }
    for (int isa = 0; isa <= last_isa; isa++) {
        uint8_t *out = fuzz_allocate(head.nbytes);
        memset(out, filling(isa), head.nbytes);
        zf_dispatch_override(isa);
        const char *wrong_now = base != NULL ? zf_bitx_decode(payload, payload_nbytes, base, out, head.nbytes)
                                : head.codec == FUZZ_BLOCKS
                                    ? zf_blocks_decode(payload, payload_nbytes, out, head.nbytes)
                                    : zf_standalone_decode(payload, payload_nbytes, out, head.nbytes);
        if (isa == 0) {
            first = out;
            wrong = wrong_now;
            continue;
        }
        if ((wrong == NULL) != (wrong_now == NULL) || (wrong != NULL && strcmp(wrong, wrong_now)))
            fail("verdicts", isa, wrong, wrong_now);
        if (!same(first, out, head.nbytes, isa, wrong != NULL))
            fail("bytes", isa, wrong, wrong_now);
        fuzz_free(out, head.nbytes);
    }
    if (telling)
        printf("%s, %zu bytes: %s\n", name_of(head.codec), head.nbytes, wrong != NULL ? wrong : "right");
    fuzz_free(first, head.nbytes);
    if (base != NULL)
        fuzz_free(base, head.nbytes);
    fuzz_free(payload, payload_nbytes);
    return 0;
}

static size_t make_input(fuzz_random *random, int codec, uint8_t *data, size_t most) {
    for (int attempt = 0; attempt < 8; attempt++) {
        size_t size = codec == FUZZ_STANDALONE ? fuzz_make_standalone(random, data, most)
                      : codec == FUZZ_BLOCKS   ? fuzz_make_blocks(random, data, most)
                                               : fuzz_make_bitx(random, data, most);
        if (size)
            return size;
    }
    return 0;
}

static size_t another_length(fuzz_random *random, size_t nbytes, size_t item) {
    switch (fuzz_below(random, 8)) {
    case 0: return nbytes + 1;
    case 1: return nbytes - (nbytes > 0);
    case 2: return nbytes + item;
    case 3: return nbytes - (nbytes >= item ? item : 0);
    case 4: return nbytes + 64 * item;
    case 5: return nbytes / 2;
    case 6: return fuzz_below(random, 200);
    default: return fuzz_below(random, nbytes + 2);
    }
}

/* Bytes from..to of the payload change, and perhaps their number. */
static size_t mutate_part(uint8_t *data, size_t size, size_t most, size_t from, size_t to) {
    const size_t rest = size - to;
    uint8_t *part = malloc(most), *behind = malloc(rest + 1);
    if (part == NULL || behind == NULL)
        abort();
    memcpy(part, data + from, to - from);
    memcpy(behind, data + to, rest);
    const size_t room = most - from - rest; /* where there is none, a byte is made nevertheless */
    const size_t nbytes = room ? LLVMFuzzerMutate(part, to - from, room) : 0;
    memcpy(data + from, part, nbytes);
    memcpy(data + from + nbytes, behind, rest);
    free(behind);
    free(part);
    return from + nbytes + rest;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
    fuzz_random random = {seed, 0};
    if (most < FUZZ_HEAD)
        return LLVMFuzzerMutate(data, size, most);
    if (size < FUZZ_HEAD || !fuzz_below(&random, 24)) {
        int codec = codec_wanted >= 0 ? codec_wanted : codecs[fuzz_below(&random, CODECS)];
        size_t made = make_input(&random, size < FUZZ_HEAD ? codec : fuzz_get_head(data).codec, data, most);
        if (made)
            return made;
        if (size < FUZZ_HEAD) {
            fuzz_put_head(data, (fuzz_head){codec, FUZZ_BASE_WEIGHTS, 16, seed});
            return FUZZ_HEAD;
        }
    }
    fuzz_head head = fuzz_get_head(data);
    const size_t item = zf_layouts[fuzz_layout(data + FUZZ_HEAD, size - FUZZ_HEAD)].nbytes;
    size_t changed = 0, part;
    switch (fuzz_below(&random, 12)) {
    case 0:
        head.nbytes = another_length(&random, head.nbytes, item) & FUZZ_MOST_NBYTES;
        fuzz_put_head(data, head);
        return size;
    case 1:
        head.base_kind = (int)fuzz_below(&random, 4);
        head.seed ^= fuzz_below(&random, 2) ? 1u << fuzz_below(&random, 32) : 0;
        fuzz_put_head(data, head);
        return size;
    case 2:
        if (size > FUZZ_HEAD) {
            uint8_t *named = &data[FUZZ_HEAD];
            if (head.codec == FUZZ_BLOCKS) {
                *named = (uint8_t)(1 + fuzz_below(&random, ZF_BLOCK_TYPES - 1));
                return size;
            }
            *named = (uint8_t)((*named & 0xF0) | (1 + fuzz_below(&random, ZF_LAYOUTS - 1)));
            if (!fuzz_below(&random, 3))
                *named = (uint8_t)((*named & 15) | (head.codec == FUZZ_STANDALONE ? 0x80 * fuzz_below(&random, 2)
                                                                                  : 16 * fuzz_below(&random, 3)));
            return size;
        }
        break;
    case 3:
    case 4:
    case 5:
        if (head.codec == FUZZ_BITX && (changed = fuzz_change_header(&random, data, size, most)) != 0)
            return changed;
        break;
    default: break;
    }
    /* Tables and counts stand in front. */
    part = fuzz_below(&random, 2) ? FUZZ_HEAD + fuzz_below(&random, 200) : size;
    return mutate_part(data, size, most, FUZZ_HEAD, part < size ? part : size);
}

static void write_seeds(const char *folder, long count) {
    enum { MOST = 1 << 20 };
    uint8_t *data = fuzz_allocate(MOST);
    for (long k = 0; k < count; k++) {
        fuzz_random random = {(uint64_t)k << 32, 0};
        char path[4096];
        size_t size = make_input(&random, codec_wanted >= 0 ? codec_wanted : codecs[k % CODECS], data, MOST);
        size = k ? size : FUZZ_HEAD;
        snprintf(path, sizeof path, "%s/seed-%05ld", folder, k);
        FILE *file = size ? fopen(path, "wb") : NULL;
        if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file))
            exit(2);
    }
    fuzz_free(data, MOST);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *codec = getenv("ZIPFS_FUZZ_CODEC"), *isa = getenv("ZIPFS_FUZZ_ISA"), *wrong = zf_dispatch_init();
    if (wrong != NULL) {
        fprintf(stderr, "%s\n", wrong);
        exit(2);
    }
    for (int k = 0; codec != NULL && k < CODECS; k++)
        if (!strcmp(codec, name_of(codecs[k])))
            codec_wanted = codecs[k];
    telling = getenv("ZIPFS_FUZZ_TELL") != NULL;
    last_isa = zf_dispatch_best();
    if (isa != NULL && zf_isa_by_name(isa) >= 0 && zf_isa_by_name(isa) < last_isa)
        last_isa = zf_isa_by_name(isa);
    if (*argc == 4 && !strcmp((*argv)[1], "seeds")) {
        write_seeds((*argv)[2], atol((*argv)[3]));
        exit(0);
    }
    return 0;
}
