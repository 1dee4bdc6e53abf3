/* What the bitx encoder decides before it codes: contexts, shifts, scale_offsets, tables.  No decoder depends on it. */
#ifndef ZF_BITX_MODEL_H
#define ZF_BITX_MODEL_H

#include <math.h>

#include "bitx.h"

/* The items to code: those of `listed` blocks, given by number, in order. */
typedef struct {
    const uint8_t *raw;
    const uint8_t *base;
    const uint32_t *blocks;
    size_t listed;
} bx_input;

/* Fills lowest_exponent, top_exponent, contexts, context[].shift and .direct; returns the estimated bits of everything
   but headers, and whether `scale_offsets` (symbols, one per 128 items) are to be used.  `standalone_bits`: what coding the items'
   exponents without the base would take; 0 for integers. */
typedef struct {
    double bits;
    double standalone_bits;
    int has_scale_offsets;
} bx_plan;

bx_plan bx_choose_model(bx_frame *frame, const bx_input *input, uint8_t *scale_offsets, uint64_t *magnitudes);

ZF_INLINE double bx_plogp(double n) { return n > 0 ? n * log2(n) : 0; }

enum { BX_CLASSES = 65 }; /* bit lengths of a residual's size */

/* Scale offsets by the sizes that bx_measure adds up. */
void bx_guess_scale_offsets(const bx_frame *frame, const uint64_t *magnitudes, uint8_t *scale_offsets);

/* Moves scale_offsets of 2-byte items to where they cost least, by the classes that were counted in the frame's contexts. */
void bx_refine_scale_offsets(const bx_frame *frame, const bx_input *input, uint32_t (*classes)[BX_CLASSES],
                             uint8_t *scale_offsets);

/* What they take themselves. */
double bx_scale_offset_bits(const bx_input *input, const uint8_t *scale_offsets);

/* Tables for the symbols counted by context; sets frame->tables, frequency and context[].table. */
void bx_choose_tables(bx_frame *frame, uint32_t (*counts)[BX_SYMBOLS]);

/* Sums of the residuals' sizes over the 64 items of each listed block that lie in `frame`, added up by scale_offset. */
typedef void bx_measure(const bx_frame *frame, const bx_input *input, unsigned reference, uint64_t *magnitudes);
bx_measure bx_measure_portable;
#if ZF_X86
bx_measure bx_measure_avx2, bx_measure_avx512; /* items of 1, 2 and 4 bytes */
#endif

enum { BX_MEASURE_EXPONENTS = 14, BX_MEASURE_CAP = 1023 };

#endif
