/* Feeds damaged payloads to the delta decoder: mutate_delta SECONDS SEED.  It is built with sanitizers, and every
   buffer is an allocation of exactly its length, so that a byte read or written outside one ends the program.  All
   instruction sets must encode to the same bytes, and agree on what a damaged payload holds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common.h"
#include "dispatch.h"

static uint64_t state;

static uint64_t random_bits(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t bound) { return (size_t)(random_bits() % bound); }

static void *allocate(size_t nbytes) {
    void *room = malloc(nbytes ? nbytes : 1);
    if (room == NULL)
        abort();
    return room;
}

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "%s: %s\n", what, detail == NULL ? "" : detail);
    abort();
}

static size_t random_items(void) {
    switch (below(8)) {
    case 0: return below(40);
    case 1: return 32768 + below(30000);
    case 2: return 1000 + below(5000);
    default: return below(700);
    }
}

static void make_pair(uint8_t *raw, uint8_t *base, size_t nbytes, int layout) {
    const zf_layout *fields = &zf_layouts[layout];
    const unsigned item = fields->nbytes, width = 8 * item;
    const unsigned size = (unsigned)below(width - 2), rare = (unsigned)below(4), halves = item == 4 && below(6) == 0;
    const uint64_t middle = fields->exponent_bits ? (uint64_t)1 << (fields->exponent_bits - 1) : 0;
    for (size_t at = 0; at < nbytes; at += item) {
        uint64_t b = random_bits(), change = random_bits() & (((uint64_t)1 << size) - 1), f;
        if (fields->exponent_bits) {
            uint64_t exponent = middle - 1 - (uint64_t)__builtin_ctzll(random_bits() | (uint64_t)1 << 12) % middle;
            b = (b & (((uint64_t)1 << fields->mantissa_bits) - 1)) | exponent << fields->mantissa_bits;
            b |= (random_bits() & 1) << (width - 1);
        }
        if (rare == 1 && random_bits() % 16)
            change = 0;
        if (rare == 2 && at / 512 % 3)
            change = 0;
        f = random_bits() & 1 ? b + change : b - change;
        if (rare == 3 && random_bits() % 50 == 0)
            f = random_bits();
        if (halves) {
            f &= 0xFFFF0000;
            b &= 0xFFFF0000;
        }
        size_t n = nbytes - at < item ? nbytes - at : item;
        memcpy(raw + at, &f, n);
        memcpy(base + at, &b, n);
    }
}

static int encode(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *payload, size_t capacity,
                  size_t *used) {
    int failed = 0;
    for (int isa = 0; isa <= zf_dispatch_best(); isa++) {
        size_t used_now = 0;
        uint8_t *out = allocate(capacity);
        zf_dispatch_override(isa);
        int failed_now = zf_delta_encode(raw, base, nbytes, layout, out, capacity, &used_now);
        if (isa == 0) {
            failed = failed_now;
            *used = used_now;
            if (!failed)
                memcpy(payload, out, used_now);
        } else if (failed_now != failed || (!failed && (used_now != *used || memcmp(out, payload, used_now)))) {
            fail("encoders differ", zf_isa_name(isa));
        }
        free(out);
    }
    return failed;
}

/* Whether the payload was taken; `expected`, if any, is what it must decode to. */
static int decode(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, size_t nbytes,
                  const uint8_t *expected) {
    const char *wrong = NULL;
    uint8_t *first = allocate(nbytes);
    for (int isa = 0; isa <= zf_dispatch_best(); isa++) {
        uint8_t *out = isa ? allocate(nbytes) : first;
        zf_dispatch_override(isa);
        const char *wrong_now = zf_delta_decode(payload, payload_nbytes, base, out, nbytes);
        if (isa == 0)
            wrong = wrong_now;
        if ((wrong == NULL) != (wrong_now == NULL) || (wrong == NULL && nbytes && memcmp(out, first, nbytes)))
            fail("decoders differ", zf_isa_name(isa));
        if (isa)
            free(out);
    }
    if (expected != NULL && (wrong != NULL || memcmp(first, expected, nbytes)))
        fail("what was encoded does not come back", wrong);
    free(first);
    return wrong == NULL;
}

static int decode_mutant(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, size_t nbytes) {
    size_t kind = below(6), length = payload_nbytes;
    if (kind == 0)
        length = below(payload_nbytes + 1);
    else if (kind == 1)
        length += below(20);
    uint8_t *mutant = allocate(length);
    for (size_t i = 0; i < length; i++)
        mutant[i] = i < payload_nbytes ? payload[i] : (uint8_t)random_bits();
    for (size_t changes = below(4); changes > 0 && length; changes--) {
        size_t at = below(below(3) && length > 100 ? 100 : length); /* tables stand in front */
        switch (below(4)) {
        case 0: mutant[at] ^= (uint8_t)(1 << below(8)); break;
        case 1: mutant[at] = (uint8_t)random_bits(); break;
        case 2: mutant[at] = below(2) ? 0 : 255; break;
        default: mutant[at] += below(2) ? 1 : 255; break;
        }
    }
    size_t shorter = below(8) ? nbytes : below(nbytes + 1); /* the base must have as many bytes */
    uint8_t *base_now = allocate(shorter);
    for (size_t i = 0; i < shorter; i++)
        base_now[i] = base[i];
    for (size_t changes = below(3) ? 0 : below(50); changes > 0 && shorter; changes--)
        base_now[below(shorter)] = (uint8_t)random_bits();
    int taken = decode(mutant, length, base_now, shorter, NULL);
    free(base_now);
    free(mutant);
    return taken;
}

int main(int argc, char **argv) {
    if (argc != 3 || zf_dispatch_init() != NULL)
        return 2;
    time_t stop = time(NULL) + atol(argv[1]);
    state = (strtoull(argv[2], NULL, 10) + 1) * UINT64_C(0x9E3779B97F4A7C15);
    long payloads = 0, taken = 0, refused = 0;
    while (time(NULL) < stop) {
        int layout = 1 + (int)below(ZF_LAYOUTS - 1);
        const size_t item = zf_layouts[layout].nbytes, nbytes = random_items() * item + below(item);
        const size_t capacity = below(16) ? nbytes + nbytes / 4 + 400 : below(nbytes + 1);
        size_t used = 0;
        uint8_t *raw = allocate(nbytes), *base = allocate(nbytes), *payload = allocate(capacity);
        make_pair(raw, base, nbytes, layout);
        if (!encode(raw, base, nbytes, layout, payload, capacity, &used)) {
            uint8_t *exact = allocate(used);
            memcpy(exact, payload, used);
            payloads++;
            decode(exact, used, base, nbytes, raw);
            for (int round = used < 3000 ? 60 : 10; round > 0; round--)
                decode_mutant(exact, used, base, nbytes) ? taken++ : refused++;
            free(exact);
        }
        free(payload);
        free(base);
        free(raw);
    }
    printf("%ld payloads, %ld mutants refused, %ld taken\n", payloads, refused, taken);
    return payloads == 0;
}
