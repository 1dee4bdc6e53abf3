/* Minhash samples: places of a tensor that are recognised by the signs of the items around them. */
#ifndef ZF_MINHASH_H
#define ZF_MINHASH_H

#include "common.h"

/* Items whose signs make a sample. */
enum { ZF_SAMPLE_ITEMS = 48 };

/* Looks at the ZF_SAMPLE_ITEMS items from every `stride`-th of `count` items on (`stride` is 1, 2, 4 or 8) and keeps
   the hash and place of those whose hash is at most `threshold`, in order, `capacity` of them at most.  The hash is one
   of the top bits of the items; places where nearly all of these are alike are left out.  Returns how many were kept. */
size_t zf_minhash_samples(const uint8_t *items, size_t count, int item_nbytes, size_t stride, uint64_t threshold,
                          uint64_t *hashes, uint32_t *places, size_t capacity);

#endif
