/* Items taken apart into byte planes and put together.

   The 8 bits below the top `turn` bits of an item become its top plane: of BF16 and F32 the whole exponent (turn 1, the
   sign), of F16 the exponent and three bits of the mantissa, of F64 (turn 4) the low 8 bits of the exponent, the only
   ones that differ among usual values.  The top bits go below them, so that F32 that holds BF16 has two even planes and
   two that are zero.

   The loops are plain C; each instruction set has its own compilation of them. */
#include "standalone.h"

#define TOP(type) (8 * (int)sizeof(type) - 8)

#define TURNED(type, item, turn)                                                 \
    ((type)((type)((type)((item) << (turn)) >> TOP(type) << TOP(type)) |         \
            (type)((item) >> (TOP(type) + 8 - (turn)) << (TOP(type) - (turn))) | \
            (type)((item) & (((type)1 << (TOP(type) - (turn))) - 1))))

#define TURNED_BACK(type, item, turn)                                                    \
    ((type)((type)((item) >> TOP(type) << (TOP(type) - (turn))) |                        \
            (type)((type)((item) >> (TOP(type) - (turn))) << (TOP(type) + 8 - (turn))) | \
            (type)((item) & (((type)1 << (TOP(type) - (turn))) - 1))))

ZF_INLINE void split16(const uint8_t *restrict raw, size_t n, int turn, uint8_t *restrict p0, uint8_t *restrict p1) {
    for (size_t i = 0; i < n; i++) {
        uint16_t item = zf_get16(raw + 2 * i);
        item = turn ? TURNED(uint16_t, item, 1) : item;
        p0[i] = (uint8_t)item;
        p1[i] = (uint8_t)(item >> 8);
    }
}

ZF_INLINE void split32(const uint8_t *restrict raw, size_t n, int turn, uint8_t *restrict p0, uint8_t *restrict p1,
                       uint8_t *restrict p2, uint8_t *restrict p3) {
    for (size_t i = 0; i < n; i++) {
        uint32_t item = zf_get32(raw + 4 * i);
        item = turn ? TURNED(uint32_t, item, 1) : item;
        p0[i] = (uint8_t)item;
        p1[i] = (uint8_t)(item >> 8);
        p2[i] = (uint8_t)(item >> 16);
        p3[i] = (uint8_t)(item >> 24);
    }
}

ZF_INLINE void split64(const uint8_t *restrict raw, size_t n, int turn, uint8_t *const planes[8]) {
    for (int plane = 0; plane < 8; plane++) {
        uint8_t *restrict to = planes[plane];
        for (size_t i = 0; i < n; i++) {
            uint64_t item = zf_get64(raw + 8 * i);
            item = turn ? TURNED(uint64_t, item, 4) : item;
            to[i] = (uint8_t)(item >> 8 * plane);
        }
    }
}

ZF_INLINE void merge16(const uint8_t *restrict p0, const uint8_t *restrict p1, size_t n, int turn,
                       uint8_t *restrict out) {
    for (size_t i = 0; i < n; i++) {
        uint16_t item = (uint16_t)(p0[i] | p1[i] << 8);
        zf_put16(out + 2 * i, turn ? TURNED_BACK(uint16_t, item, 1) : item);
    }
}

ZF_INLINE void merge32(const uint8_t *restrict p0, const uint8_t *restrict p1, const uint8_t *restrict p2,
                       const uint8_t *restrict p3, size_t n, int turn, uint8_t *restrict out) {
    for (size_t i = 0; i < n; i++) {
        uint32_t item = p0[i] | (uint32_t)p1[i] << 8 | (uint32_t)p2[i] << 16 | (uint32_t)p3[i] << 24;
        zf_put32(out + 4 * i, turn ? TURNED_BACK(uint32_t, item, 1) : item);
    }
}

ZF_INLINE void merge64(const uint8_t *const planes[8], size_t n, int turn, uint8_t *restrict out) {
    const uint8_t *restrict p0 = planes[0], *restrict p1 = planes[1], *restrict p2 = planes[2],
                            *restrict p3 = planes[3];
    const uint8_t *restrict p4 = planes[4], *restrict p5 = planes[5], *restrict p6 = planes[6],
                            *restrict p7 = planes[7];
    for (size_t i = 0; i < n; i++) {
        uint32_t low = p0[i] | (uint32_t)p1[i] << 8 | (uint32_t)p2[i] << 16 | (uint32_t)p3[i] << 24;
        uint32_t high = p4[i] | (uint32_t)p5[i] << 8 | (uint32_t)p6[i] << 16 | (uint32_t)p7[i] << 24;
        uint64_t item = low | (uint64_t)high << 32;
        zf_put64(out + 8 * i, turn ? TURNED_BACK(uint64_t, item, 4) : item);
    }
}

/* `turn` is 0 or the one of the width; as a constant it leaves the loops. */
ZF_INLINE void split(const uint8_t *raw, size_t n, int w, int turn, uint8_t *const planes[8]) {
    if (w == 2 && turn)
        split16(raw, n, 1, planes[0], planes[1]);
    else if (w == 2)
        split16(raw, n, 0, planes[0], planes[1]);
    else if (w == 4 && turn)
        split32(raw, n, 1, planes[0], planes[1], planes[2], planes[3]);
    else if (w == 4)
        split32(raw, n, 0, planes[0], planes[1], planes[2], planes[3]);
    else if (turn)
        split64(raw, n, 1, planes);
    else
        split64(raw, n, 0, planes);
}

ZF_INLINE void merge(const uint8_t *const planes[8], size_t n, int w, int turn, uint8_t *out) {
    if (w == 2 && turn)
        merge16(planes[0], planes[1], n, 1, out);
    else if (w == 2)
        merge16(planes[0], planes[1], n, 0, out);
    else if (w == 4 && turn)
        merge32(planes[0], planes[1], planes[2], planes[3], n, 1, out);
    else if (w == 4)
        merge32(planes[0], planes[1], planes[2], planes[3], n, 0, out);
    else if (turn)
        merge64(planes, n, 1, out);
    else
        merge64(planes, n, 0, out);
}

#if ZF_X86
ZF_TARGET_AVX2 static void split_avx2(const uint8_t *raw, size_t n, int w, int turn, uint8_t *const planes[8]) {
    split(raw, n, w, turn, planes);
}

ZF_TARGET_AVX512 static void split_avx512(const uint8_t *raw, size_t n, int w, int turn, uint8_t *const planes[8]) {
    split(raw, n, w, turn, planes);
}

ZF_TARGET_AVX2 static void merge_avx2(const uint8_t *const planes[8], size_t n, int w, int turn, uint8_t *out) {
    merge(planes, n, w, turn, out);
}

ZF_TARGET_AVX512 static void merge_avx512(const uint8_t *const planes[8], size_t n, int w, int turn, uint8_t *out) {
    merge(planes, n, w, turn, out);
}
#endif

void sa_split(const uint8_t *raw, size_t n, int w, int turn, uint8_t *const planes[8]) {
#if ZF_X86
    if (zf_isa() == ZF_AVX512) {
        split_avx512(raw, n, w, turn, planes);
        return;
    }
    if (zf_isa() == ZF_AVX2) {
        split_avx2(raw, n, w, turn, planes);
        return;
    }
#endif
    split(raw, n, w, turn, planes);
}

void sa_merge(const uint8_t *const planes[8], size_t n, int w, int turn, uint8_t *out) {
#if ZF_X86
    if (zf_isa() == ZF_AVX512) {
        merge_avx512(planes, n, w, turn, out);
        return;
    }
    if (zf_isa() == ZF_AVX2) {
        merge_avx2(planes, n, w, turn, out);
        return;
    }
#endif
    merge(planes, n, w, turn, out);
}
