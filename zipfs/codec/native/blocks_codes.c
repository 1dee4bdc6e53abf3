/* Codes of blocks to bytes that a Huffman code knows what to do with, unit by unit, and back.

   Codes of 4 bits go two to a byte, of 3 bits too, of 2 bits four to a byte, all of one unit; codes of 5 and 6 bits one to a
   byte.  The loops are plain C; each instruction set has its own compilation of them. */
#include "blocks.h"

/* Units of 16 codes in halves of a block: code l of group j of half h is at 2 j bits of byte 32 h + l. */
enum { HALVES = 2, GROUPS = 4, GROUP = 32, UNIT = 16, CODES = 256 };

ZF_INLINE void split_k2(const uint8_t *restrict qs, uint8_t *restrict units) {
    for (int unit = 0; unit < 16; unit++) {
        const uint8_t *from = qs + unit / 8 * GROUP + unit % 2 * UNIT;
        const int shift = unit % 8 / 2 * 2;
        for (int k = 0; k < 4; k++)
            units[4 * unit + k] = (uint8_t)((from[k] >> shift & 3) | (from[k + 4] >> shift & 3) << 2 |
                                            (from[k + 8] >> shift & 3) << 4 | (from[k + 12] >> shift & 3) << 6);
    }
}

ZF_INLINE void merge_k2(const uint8_t *restrict units, uint8_t *restrict qs) {
    const uint32_t mask = 0x03030303;
    for (int half = 0; half < HALVES; half++)
        for (int side = 0; side < 2; side++)
            for (int part = 0; part < 4; part++) {
                const uint8_t *from = units + 4 * (8 * half + side);
                uint32_t four = 0;
                for (int group = 0; group < GROUPS; group++)
                    four |= (zf_get32(from + 8 * group) >> 2 * part & mask) << 2 * group;
                zf_put32(qs + half * GROUP + side * UNIT + 4 * part, four);
            }
}

ZF_INLINE void split_k3(const uint8_t *restrict high, const uint8_t *restrict qs, uint8_t *restrict units) {
    for (int unit = 0; unit < 16; unit++) {
        const uint8_t *from = qs + unit / 8 * GROUP + unit % 2 * UNIT, *above = high + unit % 2 * UNIT;
        const int shift = unit % 8 / 2 * 2, bit = unit / 2;
        for (int k = 0; k < 8; k++) {
            const int first = (from[k] >> shift & 3) | (above[k] >> bit & 1) << 2;
            const int second = (from[k + 8] >> shift & 3) | (above[k + 8] >> bit & 1) << 2;
            units[8 * unit + k] = (uint8_t)(first | second << 3);
        }
    }
}

ZF_INLINE void merge_k3(const uint8_t *restrict units, uint8_t *restrict high, uint8_t *restrict qs) {
    uint8_t codes[CODES]; /* as bits 2 j of byte l have them */
    for (int unit = 0; unit < 16; unit++)
        for (int k = 0; k < 8; k++) {
            codes[16 * unit + k] = units[8 * unit + k] & 7;
            codes[16 * unit + 8 + k] = units[8 * unit + k] >> 3 & 7;
        }
    for (int half = 0; half < HALVES; half++)
        for (int k = 0; k < GROUP; k++) {
            const uint8_t *from = codes + 128 * half + k;
            qs[GROUP * half + k] = (uint8_t)((from[0] & 3) | (from[32] & 3) << 2 | (from[64] & 3) << 4 |
                                             (from[96] & 3) << 6);
        }
    for (int k = 0; k < GROUP; k++) {
        unsigned bits = 0;
        for (int bit = 0; bit < 8; bit++)
            bits |= (unsigned)(codes[32 * bit + k] >> 2) << bit;
        high[k] = (uint8_t)bits;
    }
}

ZF_INLINE void split_k4(const uint8_t *restrict qs, uint8_t *restrict units) {
    for (int group = 0; group < GROUPS; group++, qs += GROUP, units += 2 * UNIT)
        for (int k = 0; k < UNIT; k++) {
            units[k] = (uint8_t)((qs[k] & 15) | (qs[k + UNIT] & 15) << 4);
            units[k + UNIT] = (uint8_t)(qs[k] >> 4 | (qs[k + UNIT] & 0xF0));
        }
}

ZF_INLINE void merge_k4(const uint8_t *restrict units, uint8_t *restrict qs) {
    for (int group = 0; group < GROUPS; group++, qs += GROUP, units += 2 * UNIT)
        for (int k = 0; k < UNIT; k++) {
            qs[k] = (uint8_t)((units[k] & 15) | (units[k + UNIT] & 15) << 4);
            qs[k + UNIT] = (uint8_t)(units[k] >> 4 | (units[k + UNIT] & 0xF0));
        }
}

/* 32 codes of 5 bits: bytes of two nibbles, half a unit apart, and a word of high bits. */
ZF_INLINE void split_high_bits(const uint8_t *restrict high, const uint8_t *restrict qs, uint8_t *restrict unit) {
    const uint32_t bits = zf_get32(high);
    for (int k = 0; k < UNIT; k++) {
        unit[k] = (uint8_t)((qs[k] & 15) | (bits >> k & 1) << 4);
        unit[k + UNIT] = (uint8_t)(qs[k] >> 4 | (bits >> (k + UNIT) & 1) << 4);
    }
}

/* Bit 4 of each of eight bytes, the first byte's lowest. */
ZF_INLINE uint8_t fifth_bits(const uint8_t *eight) {
    return (uint8_t)(((zf_get64(eight) >> 4 & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080)) >> 56);
}

ZF_INLINE void merge_high_bits(const uint8_t *restrict unit, uint8_t *restrict high, uint8_t *restrict qs) {
    for (int k = 0; k < 4; k++)
        high[k] = fifth_bits(unit + 8 * k);
    for (int k = 0; k < UNIT; k++)
        qs[k] = (uint8_t)((unit[k] & 15) | (unit[k + UNIT] & 15) << 4);
}

ZF_INLINE void split_k5(const uint8_t *restrict high, const uint8_t *restrict qs, uint8_t *restrict units) {
    for (int group = 0; group < GROUPS; group++)
        for (int k = 0; k < GROUP; k++) {
            const uint8_t low = qs[GROUP * group + k];
            units[64 * group + k] = (uint8_t)((low & 15) | (high[k] >> 2 * group & 1) << 4);
            units[64 * group + 32 + k] = (uint8_t)(low >> 4 | (high[k] >> (2 * group + 1) & 1) << 4);
        }
}

ZF_INLINE void merge_k5(const uint8_t *restrict units, uint8_t *restrict high, uint8_t *restrict qs) {
    for (int group = 0; group < GROUPS; group++)
        for (int k = 0; k < GROUP; k++)
            qs[GROUP * group + k] = (uint8_t)((units[64 * group + k] & 15) | (units[64 * group + 32 + k] & 15) << 4);
    for (int k = 0; k < GROUP; k++) {
        unsigned bits = 0;
        for (int unit = 0; unit < 8; unit++)
            bits |= (unsigned)(units[32 * unit + k] >> 4 & 1) << unit;
        high[k] = (uint8_t)bits;
    }
}

ZF_INLINE void split_k6(const uint8_t *restrict low, const uint8_t *restrict high, uint8_t *restrict units) {
    for (int half = 0; half < HALVES; half++, low += 64, high += 32, units += 128)
        for (int k = 0; k < GROUP; k++) {
            units[k] = (uint8_t)((low[k] & 15) | (high[k] & 3) << 4);
            units[k + 32] = (uint8_t)((low[k + 32] & 15) | (high[k] >> 2 & 3) << 4);
            units[k + 64] = (uint8_t)(low[k] >> 4 | (high[k] >> 4 & 3) << 4);
            units[k + 96] = (uint8_t)(low[k + 32] >> 4 | high[k] >> 6 << 4);
        }
}

ZF_INLINE void merge_k6(const uint8_t *restrict units, uint8_t *restrict low, uint8_t *restrict high) {
    for (int half = 0; half < HALVES; half++, low += 64, high += 32, units += 128)
        for (int k = 0; k < GROUP; k++) {
            const uint8_t a = units[k], b = units[k + 32], c = units[k + 64], d = units[k + 96];
            low[k] = (uint8_t)((a & 15) | (c & 15) << 4);
            low[k + 32] = (uint8_t)((b & 15) | (d & 15) << 4);
            high[k] = (uint8_t)((a >> 4 & 3) | (b >> 4 & 3) << 2 | (c >> 4 & 3) << 4 | (d >> 4 & 3) << 6);
        }
}

/* Each block by itself; a constant number of bytes leaves the copies. */
ZF_INLINE void split_codes(const bl_type *type, const uint8_t *block, size_t n, uint8_t *units) {
    const size_t nbytes = (size_t)type->units * type->unit_nbytes;
    for (; n > 0; n--, block += type->nbytes, units += nbytes) {
        const uint8_t *codes = block + type->at, *high = block + type->high_at;
        switch (type->codes) {
        case BL_K2: split_k2(codes, units); break;
        case BL_K3: split_k3(high, codes, units); break;
        case BL_K4: split_k4(codes, units); break;
        case BL_HIGH_BITS: split_high_bits(high, codes, units); break;
        case BL_K5: split_k5(high, codes, units); break;
        case BL_K6: split_k6(codes, high, units); break;
        default: memcpy(units, codes, nbytes); break;
        }
    }
}

ZF_INLINE void merge_codes(const bl_type *type, const uint8_t *units, size_t n, uint8_t *block) {
    const size_t nbytes = (size_t)type->units * type->unit_nbytes;
    for (; n > 0; n--, block += type->nbytes, units += nbytes) {
        uint8_t *codes = block + type->at, *high = block + type->high_at;
        switch (type->codes) {
        case BL_K2: merge_k2(units, codes); break;
        case BL_K3: merge_k3(units, high, codes); break;
        case BL_K4: merge_k4(units, codes); break;
        case BL_HIGH_BITS: merge_high_bits(units, high, codes); break;
        case BL_K5: merge_k5(units, high, codes); break;
        case BL_K6: merge_k6(units, codes, high); break;
        default:
            if (nbytes == 16)
                memcpy(codes, units, 16);
            else
                memcpy(codes, units, nbytes);
        }
    }
}

#if ZF_X86
ZF_TARGET_AVX2 static void split_codes_avx2(const bl_type *type, const uint8_t *blocks, size_t n, uint8_t *units) {
    split_codes(type, blocks, n, units);
}

ZF_TARGET_AVX2 static void merge_codes_avx2(const bl_type *type, const uint8_t *units, size_t n, uint8_t *blocks) {
    merge_codes(type, units, n, blocks);
}
#endif

void bl_split_codes(const bl_type *type, const uint8_t *blocks, size_t n, uint8_t *units) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2) {
        split_codes_avx2(type, blocks, n, units);
        return;
    }
#endif
    split_codes(type, blocks, n, units);
}

void bl_merge_codes(const bl_type *type, const uint8_t *units, size_t n, uint8_t *blocks) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2) {
        merge_codes_avx2(type, units, n, blocks);
        return;
    }
#endif
    merge_codes(type, units, n, blocks);
}
