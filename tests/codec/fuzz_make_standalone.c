/* Standalone payloads that are right, of any mode that the stream allows, not only of those that the encoder would choose. */
#include <stdlib.h>

#include "dispatch.h"
#include "fuzz_input.h"
#include "standalone.h"

enum { ROOM = 1 << 22 };

uint8_t fuzz_skewed(fuzz_random *random, int kind) {
    const uint64_t bits = fuzz_bits(random);
    switch (kind) {
    case 0: return (uint8_t)bits;
    case 1: return (uint8_t)__builtin_ctzll(bits | 1 << 12);
    case 2: return (uint8_t)(bits & 7 ? 7 : bits >> 8);
    case 3: return bits % 31 == 0;
    default: return (uint8_t)((bits & 3) * 60);
    }
}

static size_t items_of_input(fuzz_random *random, size_t item) {
    size_t items = fuzz_below(random, 300);
    if (!fuzz_below(random, 3))
        items = fuzz_below(random, 3000);
    if (!fuzz_below(random, 8))
        items = 4000 + fuzz_below(random, 6000);
    if (!fuzz_below(random, 100))
        items = 65000 + fuzz_below(random, 8000);
    const size_t most = (FUZZ_MOST_NBYTES - 8) / item;
    return items < 1 ? 1 : items < most ? items : most;
}

static uint8_t *put_coded(fuzz_random *random, const uint8_t *run, size_t n, int bits, uint8_t *to) {
    sa_code code;
    uint32_t counts[256] = {0};
    const size_t run_nbytes = sa_run_nbytes(n, bits), streams = sa_all_streams(n, bits);
    for (size_t k = 0; k < run_nbytes; k++)
        counts[run[k]]++;
    for (size_t more = 2 + fuzz_below(random, 3); more > 0; more--)
        counts[fuzz_below(random, 256)] += 1;
    counts[run[0] ^ 1] += 1;
    sa_make_lengths(counts, code.lengths);
    sa_make_words(&code);
    to += sa_put_lengths(code.lengths, to);
    uint8_t *lengths = to, *room = malloc(SA_RUN_NBYTES);
    if (room == NULL)
        abort();
    to += 2 * streams;
    for (size_t from = 0; from < n; from += SA_BLOCK) {
        const size_t here = n - from < SA_BLOCK ? n - from : SA_BLOCK;
        const size_t nbytes = sa_run_nbytes(here, bits), at = from * (size_t)bits / 8;
        const size_t used = sa_encode_run(&code, run + at, nbytes, lengths, room);
        memcpy(to, room, used);
        to += used;
        lengths += 2 * sa_streams(nbytes);
    }
    free(room);
    return to;
}

uint8_t *fuzz_put_items(fuzz_random *random, size_t n, size_t item, const uint8_t *mask, uint8_t *to) {
    uint8_t *modes = to, *run = malloc(n + 16);
    if (run == NULL)
        abort();
    to += item;
    for (size_t plane = 0; plane < item; plane++) {
        const int coding = (int)fuzz_below(random, 3), packing = coding ? (int)fuzz_below(random, 4) : 0;
        const int bits = sa_packed_bits(packing), kind = (int)fuzz_below(random, 5);
        modes[plane] = (uint8_t)(coding | packing << SA_PACKING_SHIFT);
        if (coding == SA_CONSTANT) {
            *to++ = mask != NULL ? 1 : (uint8_t)fuzz_bits(random);
            continue;
        }
        for (int k = 0; packing && k < 1 << bits; k++)
            *to++ = mask != NULL ? (uint8_t)(k & 1) : (uint8_t)fuzz_bits(random);
        const size_t run_nbytes = sa_run_nbytes(n, bits);
        for (size_t k = 0; k < run_nbytes; k++)
            run[k] = mask != NULL ? 0 : fuzz_skewed(random, kind);
        for (size_t k = 0; mask != NULL && k < n; k++)
            run[k * (size_t)bits / 8] |= (uint8_t)(mask[k] << (packing ? k * (size_t)bits % 8 : 0));
        if (coding == SA_RAW) {
            memcpy(to, run, run_nbytes);
            to += run_nbytes;
        } else {
            to = put_coded(random, run, n, bits, to);
        }
    }
    free(run);
    return to;
}

static uint8_t *put_sparse(fuzz_random *random, size_t n, size_t item, uint8_t *to) {
    uint8_t *mask = malloc(n);
    if (mask == NULL)
        abort();
    const size_t rare = 1 + fuzz_below(random, 20), stretch = 1 + fuzz_below(random, 40);
    for (size_t k = 0; k < n; k++)
        mask[k] = k % stretch ? mask[k - 1] : !fuzz_below(random, rare);
    mask[fuzz_below(random, n)] = 1;
    const uint8_t *modes = to;
    to = fuzz_put_items(random, n, 1, mask, to);
    size_t kept = 0;
    for (size_t k = 0; k < n; k++)
        kept += (modes[0] & SA_CODING_MASK) == SA_CONSTANT || mask[k];
    free(mask);
    return fuzz_put_items(random, kept, item, NULL, to);
}

static uint8_t *put_encoded(fuzz_random *random, size_t nbytes, int layout, uint8_t *to) {
    uint8_t *raw = malloc(nbytes + 1);
    size_t used = 0;
    const int even = (int)fuzz_below(random, 5), odd = (int)fuzz_below(random, 5);
    const size_t rare = fuzz_below(random, 3), period = zf_layouts[layout].nbytes;
    if (raw == NULL)
        abort();
    for (size_t k = 0; k < nbytes; k++)
        raw[k] = fuzz_skewed(random, k % period == period - 1 ? odd : even);
    for (size_t k = 0; rare && k + 8 < nbytes; k += 8)
        if (fuzz_below(random, 8) > rare)
            memset(raw + k, 0, 8);
    zf_dispatch_override((int)fuzz_below(random, (size_t)zf_dispatch_best() + 1));
    const int failed = zf_standalone_encode(raw, nbytes, layout, to, nbytes + nbytes / 4 + 400, &used);
    free(raw);
    return failed ? NULL : to + used;
}

size_t fuzz_make_standalone(fuzz_random *random, uint8_t *data, size_t most) {
    const int layout = 1 + (int)fuzz_below(random, ZF_LAYOUTS - 1), encoded = !fuzz_below(random, 3);
    const size_t item = zf_layouts[layout].nbytes, n = items_of_input(random, item), tail = fuzz_below(random, item);
    uint8_t *made = malloc(ROOM), *to = made + FUZZ_HEAD;
    if (made == NULL)
        abort();
    const fuzz_head head = {FUZZ_STANDALONE, 0, n * item + tail, 0};
    fuzz_put_head(made, head);
    if (encoded) {
        to = put_encoded(random, head.nbytes, layout, to);
    } else {
        const int sparse = !fuzz_below(random, 3);
        *to++ = (uint8_t)(layout | (sparse ? SA_SPARSE : 0));
        to = sparse ? put_sparse(random, n, item, to) : fuzz_put_items(random, n, item, NULL, to);
        for (size_t k = 0; k < tail; k++)
            *to++ = (uint8_t)k;
    }
    const size_t size = to != NULL && (size_t)(to - made) <= most ? (size_t)(to - made) : 0;
    memcpy(data, made, size);
    free(made);
    return size;
}
