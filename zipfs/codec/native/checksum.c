/* XXH3 from libxxhash's header, compiled for the least that the architecture has. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "checksum.h"
#include "common.h"

uint64_t zf_checksum(const uint8_t *bytes, size_t nbytes, uint64_t seed) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2)
        return zf_checksum_avx2(bytes, nbytes, seed);
#endif
    return XXH3_64bits_withSeed(bytes, nbytes, seed);
}
