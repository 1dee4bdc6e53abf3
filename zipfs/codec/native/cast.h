/* Float items turned into those of another type. */
#ifndef ZF_CAST_H
#define ZF_CAST_H

#include "common.h"

/* `count` items of layout `from`, times `scale`, become as many of layout `to`.  `scale` is normal and above 0.  0 if
   there is no such cast, and then nothing is done. */
int zf_cast(const uint8_t *items, size_t count, int from, int to, float scale, uint8_t *out);

#endif
