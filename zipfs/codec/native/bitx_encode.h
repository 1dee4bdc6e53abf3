/* The parts of the bitx encoder that have a path for each instruction set. */
#ifndef ZF_BITX_ENCODE_H
#define ZF_BITX_ENCODE_H

#include "bitx_model.h"

/* Symbols of the items in coding order, by place in the listed blocks, and what goes into the two raw streams. */
typedef struct {
    uint8_t *keys; /* context << 4 | symbol */
    uint8_t *lows; /* uncoded bits, an item each (2 bytes for 1-byte items) */
    uint8_t *extended_literals;
    uint8_t *literals;
    size_t extended_count;
    size_t literals_count;
} bx_symbols;

/* Fills `symbols` for blocks from..to of the input; all of them are whole. */
typedef void bx_symbolise(const bx_frame *frame, const bx_input *input, size_t from, size_t to, const uint16_t *levels,
                          bx_symbols *symbols);
bx_symbolise bx_symbolise_portable;

/* Writes words downwards from `end`, which has room for all, and returns where they begin. */
typedef uint8_t *bx_code(const bx_frame *frame, const uint16_t (*slots)[BX_SCALE], const uint16_t (*first)[BX_SYMBOLS],
                         const bx_symbols *symbols, size_t blocks, uint32_t *state, uint8_t *end);
bx_code bx_code_portable;

#if ZF_X86
bx_symbolise bx_symbolise_avx2, bx_symbolise_avx512; /* items of 1, 2 and 4 bytes */
bx_code bx_code_avx2;                                /* in 64 lanes */
bx_code bx_code_avx512;                              /* in 64 lanes, items of 1, 2 and 4 bytes */
#endif

ZF_INLINE unsigned bx_low_nbytes(unsigned item) { return item == 1 ? 2 : item; }

#endif
