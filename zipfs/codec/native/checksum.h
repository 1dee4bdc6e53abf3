/* The checksum that frames carry: XXH3-64 of the decoded bytes, with a seed. */
#ifndef ZF_CHECKSUM_H
#define ZF_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t zf_checksum(const uint8_t *bytes, size_t nbytes, uint64_t seed);
uint64_t zf_checksum_avx2(const uint8_t *bytes, size_t nbytes, uint64_t seed);

#endif
