/* Float items turned into those of another type. */
#ifndef ZF_CAST_H
#define ZF_CAST_H

#include "common.h"

/* `count` items of layout `from`, times `scale`, become as many of layout `to`.  `scale` is normal and above 0.  0 if
   there is no such cast, and then nothing is done. */
int zf_cast(const uint8_t *items, size_t count, int from, int to, float scale, uint8_t *out);

/* Whether items of `narrow` are floats of a shorter mantissa, no longer than those of `layout`, to which these are cast. */
int zf_is_narrower(int narrow, int layout);

/* The layout of the narrowest floats that hold each of these items exactly, or ZF_PLAIN if there is none narrower. */
int zf_narrow_layout(const uint8_t *items, size_t nbytes, int layout);

#endif
