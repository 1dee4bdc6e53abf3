/* What the delta encoder decides before it codes: contexts, shifts, octaves, tables.  No decoder depends on it. */
#ifndef ZF_DELTA_MODEL_H
#define ZF_DELTA_MODEL_H

#include <math.h>

#include "delta.h"

/* The items to code: those of `listed` blocks, given by number, in order. */
typedef struct {
    const uint8_t *raw;
    const uint8_t *base;
    const uint32_t *blocks;
    size_t listed;
} zd_input;

/* Fills lowest_exponent, top_exponent, contexts, context[].shift and .direct; returns the estimated bits of everything
   but headers, and whether `octaves` (symbols, one per 128 items) are to be used.  `alone_bits`: what coding the items'
   exponents without the base would take; 0 for integers. */
typedef struct {
    double bits;
    double alone_bits;
    int has_octaves;
} zd_plan;

zd_plan zd_choose_model(zd_frame *frame, const zd_input *input, uint8_t *octaves, uint64_t *magnitudes);

ZF_INLINE double zd_plogp(double n) { return n > 0 ? n * log2(n) : 0; }

enum { ZD_CLASSES = 65 }; /* bit lengths of a residual's size */

/* Octaves by the sizes that zd_measure adds up. */
void zd_guess_octaves(const zd_frame *frame, const uint64_t *magnitudes, uint8_t *octaves);

/* Moves octaves of 2-byte items to where they cost least, by the classes that were counted in the frame's contexts. */
void zd_refine_octaves(const zd_frame *frame, const zd_input *input, uint32_t (*classes)[ZD_CLASSES], uint8_t *octaves);

/* What they take themselves. */
double zd_octave_bits(const zd_input *input, const uint8_t *octaves);

/* Tables for the symbols counted by context; sets frame->tables, frequency and context[].table. */
void zd_choose_tables(zd_frame *frame, uint32_t (*counts)[ZD_SYMBOLS]);

/* Sums of the residuals' sizes over the 64 items of each listed block that lie in `frame`, added up by octave. */
typedef void zd_measure(const zd_frame *frame, const zd_input *input, unsigned reference, uint64_t *magnitudes);
zd_measure zd_measure_portable;
#if ZF_X86
zd_measure zd_measure_avx2, zd_measure_avx512; /* items of 1, 2 and 4 bytes */
#endif

enum { ZD_MEASURE_EXPONENTS = 14, ZD_MEASURE_CAP = 1023 };

#endif
