/* The same for AVX2, which the header looks for while it is compiled: twice as fast.  AVX-512 gains nothing more. */
#if defined(__x86_64__) && defined(__GNUC__)
#ifndef __clang__ /* knows no such pragma, and makes what runs anywhere */
#pragma GCC target("avx2")
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "checksum.h"

uint64_t zf_checksum_avx2(const uint8_t *bytes, size_t nbytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, nbytes, seed);
}
#endif
