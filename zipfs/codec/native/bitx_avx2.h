/* What the AVX2 kernels of the bitx decoder share: 64 lanes stand in eight registers, tables are looked up by gathers. */
#ifndef ZF_BITX_AVX2_H
#define ZF_BITX_AVX2_H

#include "bitx.h"

#if ZF_X86

#define V __m256i

/* Byte j: how many of the lanes below j are set in the index.  Spreads what lies packed over the lanes that take it. */
extern const uint64_t bx_ranks[256];

ZF_INLINE ZF_TARGET_AVX2 V refill(V x, const uint8_t **words) {
    const V few = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(few));
    const V order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)&bx_ranks[mask]));
    V next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)*words));
    next = _mm256_permutevar8x32_epi32(next, order);
    *words += 2 * (unsigned)_mm_popcnt_u32(mask);
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), next), few);
}

/* The next bytes at *from, one for each of the 8 lanes that `mask` sets. */
ZF_INLINE ZF_TARGET_AVX2 __m128i expand(unsigned mask, const uint8_t **from) {
    const __m128i next = _mm_loadl_epi64((const void *)*from);
    *from += (unsigned)_mm_popcnt_u32(mask);
    return _mm_shuffle_epi8(next, _mm_loadl_epi64((const void *)&bx_ranks[mask]));
}

/* States after their symbols, before they are refilled. */
ZF_INLINE ZF_TARGET_AVX2 V take_symbols(V entry, V turned) {
    const V frequency = _mm256_and_si256(_mm256_srli_epi32(entry, 16), _mm256_set1_epi32(BX_SCALE - 1));
    return _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(turned, BX_PRECISION)),
                            _mm256_and_si256(entry, _mm256_set1_epi32(0xFFFF)));
}

/* One extra step: its uncoded bits, and the state without them. */
ZF_INLINE ZF_TARGET_AVX2 V take_extra(V *x, V bits, const uint8_t **words) {
    const V rest = _mm256_srlv_epi32(*x, bits), low = _mm256_sub_epi32(*x, _mm256_sllv_epi32(rest, bits));
    *x = refill(rest, words);
    return low;
}

/* Items that are literals, one for each that `is_literal` sets: residuals, or with a direct context items. */
ZF_INLINE ZF_TARGET_AVX2 void put_literals(unsigned is_literal, unsigned direct, const uint8_t *base, uint8_t *to,
                                           const uint8_t **literals, const unsigned item, const int is_float) {
    for (; is_literal; is_literal &= is_literal - 1) {
        const unsigned k = (unsigned)__builtin_ctz(is_literal);
        uint64_t f = bx_load(*literals, item);
        *literals += item;
        if (!(direct >> k & 1))
            f = bx_restore(f, bx_load(base + item * k, item), item, is_float);
        bx_store(to + item * k, f, item);
    }
}

#define BX_KERNEL_AVX2(name, call, ...)                                                                       \
    static ZF_NOINLINE ZF_TARGET_AVX2 void name(const bx_frame *frame, const uint32_t *direct_table,          \
                                                const uint32_t *blocks, size_t count, const uint16_t *levels, \
                                                const uint8_t *base, uint8_t *out, bx_cursor *cursor) {       \
        call(frame, direct_table, blocks, count, levels, base, out, cursor, __VA_ARGS__);                     \
    }

#endif
#endif
