/* Items of one float type turned into another, rounded to nearest, ties to even.  README.md says what becomes of NaN and
   of what is too large.  Integers throughout, so that neither rounding mode nor flushing of the processor matter, but for
   two exact multiplications. */
#include "cast.h"

/* Each works on the bits of one item, through those of the float32 that every one of these types widens to. */
ZF_INLINE uint32_t widen_f32(uint32_t bits) { return bits; }
ZF_INLINE uint32_t widen_bf16(uint32_t bits) { return bits << 16; }

ZF_INLINE uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* `magnitude` has `mantissa` bits below an exponent with that bias; `smallest` is its smallest number. */
ZF_INLINE uint32_t widen_small(uint32_t sign, uint32_t magnitude, int mantissa, int bias, float smallest) {
    uint32_t normal = (magnitude << (23 - mantissa)) + ((uint32_t)(127 - bias) << 23);
    uint32_t subnormal = float_bits((float)(int32_t)magnitude * smallest);
    uint32_t is_normal = 0u - (magnitude >> mantissa != 0); /* a mask: a choice would become a branch */
    return sign << 31 | (normal & is_normal) | (subnormal & ~is_normal);
}

ZF_INLINE uint32_t widen_f16(uint32_t bits) {
    uint32_t magnitude = bits & 0x7fff, wide = widen_small(bits >> 15, magnitude, 10, 15, 0x1p-24f);
    return wide + (magnitude >= 0x7c00 ? (uint32_t)(255 - 31 - 112) << 23 : 0);
}

ZF_INLINE uint32_t widen_e5m2(uint32_t bits) { return widen_f16(bits << 8); }

ZF_INLINE uint32_t widen_e4m3(uint32_t bits) {
    uint32_t magnitude = bits & 0x7f, wide = widen_small(bits >> 7, magnitude, 3, 7, 0x1p-9f);
    return wide | ((0u - (magnitude == 0x7f)) & 0x7fc00000);
}

ZF_INLINE uint32_t narrow_f32(uint32_t bits) { return bits; }

ZF_INLINE uint32_t narrow_bf16(uint32_t bits) {
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded;
}

/* To nearest, as an integer above which anything is too large or no number; `nan` if it was none before. */
ZF_INLINE uint32_t narrow_small(uint32_t magnitude, int mantissa, int bias, uint32_t overflow, uint32_t nan) {
    int dropped = 23 - mantissa;
    uint32_t rebased = magnitude - ((uint32_t)(127 - bias) << 23);
    uint32_t normal = (rebased + ((1u << (dropped - 1)) - 1) + (rebased >> dropped & 1)) >> dropped;
    uint32_t least_normal = (uint32_t)(128 - bias) << 23;
    uint32_t shift = (uint32_t)(128 - bias + dropped) - (magnitude >> 23);
    shift = shift < 31 ? shift : 31;
    shift = magnitude < least_normal ? shift : 1;
    uint32_t full = (magnitude & 0x7fffff) | 0x800000;
    uint32_t subnormal = (full + ((1u << (shift - 1)) - 1) + (full >> shift & 1)) >> shift;
    uint32_t rounded = magnitude < least_normal ? subnormal : normal < overflow ? normal : overflow;
    return magnitude > 0x7f800000 ? nan : rounded;
}

ZF_INLINE uint32_t narrow_f16(uint32_t bits) {
    uint32_t magnitude = bits & 0x7fffffff;
    return bits >> 31 << 15 | narrow_small(magnitude, 10, 15, 0x7c00, 0x7e00 | (magnitude >> 13 & 0x3ff));
}

ZF_INLINE uint32_t narrow_e5m2(uint32_t bits) {
    uint32_t magnitude = bits & 0x7fffffff;
    return bits >> 31 << 7 | narrow_small(magnitude, 2, 15, 0x7c, 0x7f);
}

ZF_INLINE uint32_t narrow_e4m3(uint32_t bits) {
    return bits >> 31 << 7 | narrow_small(bits & 0x7fffffff, 3, 7, 0x7f, 0x7f);
}

/* The product with a scale that is a normal number above 0.  What is or would be subnormal is zero, told from the
   exponents beforehand, so that no processor comes near to flushing it. */
ZF_INLINE uint32_t scaled(uint32_t bits, float scale) {
    uint32_t magnitude = bits & 0x7fffffff, exponent = magnitude >> 23, by = float_bits(scale) >> 23;
    uint32_t is_number = 0u - (uint32_t)(magnitude <= 0x7f800000);
    uint32_t is_large = 0u - (uint32_t)(exponent + by >= 127 + 2 && exponent > 0);
    uint32_t factor = bits & is_number & is_large;
    float value;
    memcpy(&value, &factor, 4);
    return (float_bits(value * scale) & is_number) | (bits & 0x80000000) | (bits & ~is_number);
}

ZF_INLINE uint32_t unscaled(uint32_t bits, float scale) {
    (void)scale;
    return bits;
}

typedef void (*cast_loop)(const uint8_t *items, size_t count, float scale, uint8_t *out);

#define LOOP(NAME, ATTRIBUTES, SCALED, FROM, FROM_TYPE, TO, TO_TYPE)                                               \
    ATTRIBUTES static void NAME(const uint8_t *restrict items, size_t count, float scale, uint8_t *restrict out) { \
        for (size_t i = 0; i < count; i++) {                                                                       \
            FROM_TYPE item;                                                                                        \
            memcpy(&item, items + i * sizeof item, sizeof item);                                                   \
            TO_TYPE cast = (TO_TYPE)narrow_##TO(SCALED(widen_##FROM(item), scale));                                \
            memcpy(out + i * sizeof cast, &cast, sizeof cast);                                                     \
        }                                                                                                          \
    }

#define LOOPS_FROM(SUFFIX, ATTRIBUTES, SCALED, FROM, FROM_TYPE)                    \
    LOOP(FROM##_bf16##SUFFIX, ATTRIBUTES, SCALED, FROM, FROM_TYPE, bf16, uint16_t) \
    LOOP(FROM##_f16##SUFFIX, ATTRIBUTES, SCALED, FROM, FROM_TYPE, f16, uint16_t)   \
    LOOP(FROM##_f32##SUFFIX, ATTRIBUTES, SCALED, FROM, FROM_TYPE, f32, uint32_t)   \
    LOOP(FROM##_e4m3##SUFFIX, ATTRIBUTES, SCALED, FROM, FROM_TYPE, e4m3, uint8_t)  \
    LOOP(FROM##_e5m2##SUFFIX, ATTRIBUTES, SCALED, FROM, FROM_TYPE, e5m2, uint8_t)

#define ROW_FROM(SUFFIX, FROM)        \
    {[ZF_BF16] = FROM##_bf16##SUFFIX, \
     [ZF_F16] = FROM##_f16##SUFFIX,   \
     [ZF_F32] = FROM##_f32##SUFFIX,   \
     [ZF_E4M3] = FROM##_e4m3##SUFFIX, \
     [ZF_E5M2] = FROM##_e5m2##SUFFIX}

/* Loops from every type to every type, and the table of them by layout. */
#define TABLE(SUFFIX, ATTRIBUTES, SCALED)                                                               \
    LOOPS_FROM(SUFFIX, ATTRIBUTES, SCALED, bf16, uint16_t)                                              \
    LOOPS_FROM(SUFFIX, ATTRIBUTES, SCALED, f16, uint16_t)                                               \
    LOOPS_FROM(SUFFIX, ATTRIBUTES, SCALED, f32, uint32_t)                                               \
    LOOPS_FROM(SUFFIX, ATTRIBUTES, SCALED, e4m3, uint8_t)                                               \
    LOOPS_FROM(SUFFIX, ATTRIBUTES, SCALED, e5m2, uint8_t)                                               \
    static const cast_loop table##SUFFIX[ZF_LAYOUTS][ZF_LAYOUTS] = {[ZF_BF16] = ROW_FROM(SUFFIX, bf16), \
                                                                    [ZF_F16] = ROW_FROM(SUFFIX, f16),   \
                                                                    [ZF_F32] = ROW_FROM(SUFFIX, f32),   \
                                                                    [ZF_E4M3] = ROW_FROM(SUFFIX, e4m3), \
                                                                    [ZF_E5M2] = ROW_FROM(SUFFIX, e5m2)};

TABLE(_portable, , unscaled)
TABLE(_portable_scaled, , scaled)
#if ZF_X86
TABLE(_avx2, ZF_TARGET_AVX2, unscaled)
TABLE(_avx2_scaled, ZF_TARGET_AVX2, scaled)
#endif

int zf_cast(const uint8_t *items, size_t count, int from, int to, float scale, uint8_t *out) {
    cast_loop loop = scale == 1.0f ? table_portable[from][to] : table_portable_scaled[from][to];
#if ZF_X86
    if (zf_isa() >= ZF_AVX2)
        loop = scale == 1.0f ? table_avx2[from][to] : table_avx2_scaled[from][to];
#endif
    if (loop == NULL)
        return 0;
    loop(items, count, scale, out);
    return 1;
}
