/* An input of the fuzzer: what it means, and how inputs that a decoder accepts are made.

   | offset | bytes | field |
   | 0 | 1 | bits 0 and 3: codec, 0 bitx, 1 standalone, 9 blocks; bits 1-2: kind of base; the others do not matter |
   | 1 | 3 | length of the decoded bytes, of which the lowest 19 bits count |
   | 4 | 4 | seed of the base |
   | 8 | to the end | payload |

   The base follows from these and the payload's first byte, so that a few bytes stand for it; test_fuzz_corpus.py makes
   the same. */
#ifndef ZF_FUZZ_INPUT_H
#define ZF_FUZZ_INPUT_H

#include "common.h"

enum {
    FUZZ_HEAD = 8,
    FUZZ_MOST_NBYTES = (1 << 19) - 1,
    FUZZ_BITX = 0,
    FUZZ_STANDALONE = 1,
    FUZZ_BLOCKS = 9,
    FUZZ_BASE_ZERO = 0,
    FUZZ_BASE_BITS = 1,    /* every bit at random */
    FUZZ_BASE_WEIGHTS = 2, /* floats of few exponents, or small integers */
    FUZZ_BASE_HALVES = 3   /* the same with the lower half of each item zero */
};

typedef struct {
    int codec, base_kind;
    size_t nbytes;
    uint32_t seed;
} fuzz_head;

ZF_INLINE fuzz_head fuzz_get_head(const uint8_t *data) {
    const int codec = data[0] & FUZZ_STANDALONE ? data[0] & FUZZ_BLOCKS : FUZZ_BITX;
    return (fuzz_head){codec, data[0] >> 1 & 3, zf_get32(data) >> 8 & FUZZ_MOST_NBYTES, zf_get32(data + 4)};
}

ZF_INLINE void fuzz_put_head(uint8_t *data, fuzz_head head) {
    zf_put32(data, (uint32_t)head.nbytes << 8 | (uint32_t)(head.codec | head.base_kind << 1));
    zf_put32(data + 4, head.seed);
}

/* The layout that a payload names, or 8-bit integers. */
ZF_INLINE int fuzz_layout(const uint8_t *payload, size_t nbytes) {
    int layout = nbytes ? payload[0] & 15 : 0;
    return layout && layout < ZF_LAYOUTS ? layout : ZF_I8;
}

ZF_INLINE uint64_t fuzz_hash(uint64_t seed, uint64_t n) { /* splitmix64 */
    uint64_t z = seed + (n + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Random numbers of one input. */
typedef struct {
    uint64_t seed, count;
} fuzz_random;

ZF_INLINE uint64_t fuzz_bits(fuzz_random *random) { return fuzz_hash(random->seed, random->count++); }
ZF_INLINE size_t fuzz_below(fuzz_random *random, size_t bound) { return (size_t)(fuzz_bits(random) % bound); }

/* `n` bytes that end where an allocation ends; free them by fuzz_free(bytes, n). */
uint8_t *fuzz_allocate(size_t n);
void fuzz_free(uint8_t *bytes, size_t n);

void fuzz_make_base(fuzz_head head, int layout, uint8_t *base);

/* Writes an input whose payload is right, and returns its length; 0 if it would be longer than `most`. */
size_t fuzz_make_bitx(fuzz_random *random, uint8_t *data, size_t most);
size_t fuzz_make_standalone(fuzz_random *random, uint8_t *data, size_t most);
size_t fuzz_make_blocks(fuzz_random *random, uint8_t *data, size_t most);

/* A byte of one of five kinds, most of which are better coded than raw. */
uint8_t fuzz_skewed(fuzz_random *random, int kind);

/* Modes and sections of n items of `item` bytes; if the values of the one plane of a mask are given, they are 0 or 1. */
uint8_t *fuzz_put_items(fuzz_random *random, size_t n, size_t item, const uint8_t *mask, uint8_t *to);

/* Changes a field of a bitx payload's header and writes it anew; returns the new length, or 0 if there is none. */
size_t fuzz_change_header(fuzz_random *random, uint8_t *data, size_t size, size_t most);

#endif
