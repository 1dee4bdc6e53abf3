/* The parts of the delta encoder that have a path for each instruction set. */
#ifndef ZF_DELTA_ENCODE_H
#define ZF_DELTA_ENCODE_H

#include "delta_model.h"

/* Symbols of the items in coding order, by place in the listed blocks, and what goes into the two raw streams. */
typedef struct {
    uint8_t *keys; /* context << 4 | symbol */
    uint8_t *lows; /* uncoded bits, an item each (2 bytes for 1-byte items) */
    uint8_t *fars;
    uint8_t *escapes;
    size_t fars_count;
    size_t escapes_count;
} zd_symbols;

/* Fills `symbols` for blocks from..to of the input; all of them are whole. */
typedef void zd_symbolise(const zd_frame *frame, const zd_input *input, size_t from, size_t to, const uint16_t *levels,
                          zd_symbols *symbols);
zd_symbolise zd_symbolise_portable;

/* Writes words downwards from `end`, which has room for all, and returns where they begin. */
typedef uint8_t *zd_code(const zd_frame *frame, const uint16_t (*slots)[ZD_SCALE], const uint16_t (*first)[ZD_SYMBOLS],
                         const zd_symbols *symbols, size_t blocks, uint32_t *state, uint8_t *end);
zd_code zd_code_portable;

#if ZF_X86
zd_symbolise zd_symbolise_avx2, zd_symbolise_avx512; /* items of 1, 2 and 4 bytes */
zd_code zd_code_avx2;                                /* in 64 lanes */
zd_code zd_code_avx512;                              /* in 64 lanes, items of 1, 2 and 4 bytes */
#endif

ZF_INLINE unsigned zd_low_nbytes(unsigned item) { return item == 1 ? 2 : item; }

#endif
