/* The bitx decoder with AVX2 for items of 4 and 8 bytes. */
#include "bitx_avx2.h"

#if ZF_X86

/* Lanes of 32 bits in two registers of four lanes of 64. */
typedef struct {
    V part[2];
} pair;

ZF_INLINE ZF_TARGET_AVX2 pair widen(V of) {
    return (pair){
        {_mm256_cvtepu32_epi64(_mm256_castsi256_si128(of)), _mm256_cvtepu32_epi64(_mm256_extracti128_si256(of, 1))}};
}

ZF_INLINE ZF_TARGET_AVX2 pair widen_signed(V of) {
    return (pair){
        {_mm256_cvtepi32_epi64(_mm256_castsi256_si128(of)), _mm256_cvtepi32_epi64(_mm256_extracti128_si256(of, 1))}};
}

/* The exponents of 8 items. */
ZF_INLINE ZF_TARGET_AVX2 V wide_exponents(pair b, __m128i mantissa, V mask, const unsigned item) {
    if (item == 4)
        return _mm256_and_si256(_mm256_srl_epi32(b.part[0], mantissa), mask);
    const __m256 low = _mm256_castsi256_ps(_mm256_srl_epi64(b.part[0], mantissa));
    const __m256 high = _mm256_castsi256_ps(_mm256_srl_epi64(b.part[1], mantissa));
    const V both = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)), 0xD8);
    return _mm256_and_si256(both, mask);
}

ZF_INLINE ZF_TARGET_AVX2 void restore_4(const bx_frame *frame, V b, V symbol, V quotient, V shift, V is_direct, V low,
                                        uint8_t *to, const int is_float) {
    const V d = _mm256_or_si256(_mm256_sllv_epi32(quotient, shift), low);
    V restored = _mm256_add_epi32(b, d);
    if (is_float) {
        const V turn = _mm256_and_si256(b, _mm256_set1_epi32((int)0x80000000u));
        const V ordered = _mm256_add_epi32(_mm256_xor_si256(b, turn), d);
        const V fold = _mm256_srli_epi32(_mm256_srai_epi32(ordered, 31), 1);
        restored = _mm256_xor_si256(_mm256_xor_si256(ordered, fold), turn);
    }
    if (is_float && frame->has_direct) {
        V own = _mm256_sub_epi32(_mm256_set1_epi32((int)frame->top_exponent - BX_ZERO), symbol);
        own = _mm256_or_si256(_mm256_sll_epi32(own, _mm_cvtsi32_si128(frame->mantissa + 1)), low);
        own = _mm256_or_si256(_mm256_srli_epi32(own, 1), _mm256_slli_epi32(own, 31));
        restored = _mm256_blendv_epi8(restored, own, is_direct);
    }
    _mm256_storeu_si256((void *)to, restored);
}

ZF_INLINE ZF_TARGET_AVX2 void restore_8(const bx_frame *frame, V b, V symbol, V quotient, V shift, V is_direct, V low,
                                        uint8_t *to, const int is_float) {
    const V d = _mm256_or_si256(_mm256_sllv_epi64(quotient, shift), low);
    V restored = _mm256_add_epi64(b, d);
    if (is_float) {
        const V turn = _mm256_and_si256(b, _mm256_set1_epi64x(INT64_MIN));
        const V ordered = _mm256_add_epi64(_mm256_xor_si256(b, turn), d);
        const V fold = _mm256_srli_epi64(_mm256_cmpgt_epi64(_mm256_setzero_si256(), ordered), 1);
        restored = _mm256_xor_si256(_mm256_xor_si256(ordered, fold), turn);
    }
    if (is_float && frame->has_direct) {
        V own = _mm256_sub_epi64(_mm256_set1_epi64x((int)frame->top_exponent - BX_ZERO), symbol);
        own = _mm256_or_si256(_mm256_sll_epi64(own, _mm_cvtsi32_si128(frame->mantissa + 1)), low);
        own = _mm256_or_si256(_mm256_srli_epi64(own, 1), _mm256_slli_epi64(own, 63));
        restored = _mm256_blendv_epi8(restored, own, is_direct);
    }
    _mm256_storeu_si256((void *)to, restored);
}

/* Stores what 8 items decode to: in direct contexts by symbol and low bits, else by quotient and low bits. */
ZF_INLINE ZF_TARGET_AVX2 void restore_wide(const bx_frame *frame, pair b, V symbol, V quotient, V shift, V is_direct,
                                           pair low, uint8_t *to, const unsigned item, const int is_float) {
    if (item == 4) {
        restore_4(frame, b.part[0], symbol, quotient, shift, is_direct, low.part[0], to, is_float);
        return;
    }
    const pair symbols = widen_signed(symbol), quotients = widen_signed(quotient), shifts = widen(shift);
    const pair direct = widen_signed(is_direct);
    for (unsigned v = 0; v < 2; v++)
        restore_8(frame, b.part[v], symbols.part[v], quotients.part[v], shifts.part[v], direct.part[v], low.part[v],
                  to + 32 * v, is_float);
}

/* Items of 4 and 8 bytes, for which neighbours are in neighbouring lanes. */
ZF_INLINE ZF_TARGET_AVX2 void wide(const bx_frame *frame, const uint32_t *direct_table, const uint32_t *blocks,
                                   size_t count, const uint16_t *levels, const uint8_t *base, uint8_t *out,
                                   bx_cursor *cursor, const unsigned item, const int is_float) {
    uint32_t attributes[BX_CONTEXTS] = {0};
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = frame->context[k].shift | (uint32_t)frame->context[k].direct << 8 |
                        (uint32_t)frame->context[k].table * BX_SCALE << 16;
    const uint8_t *words = cursor->words, *extended_literals = cursor->extended_literals, *literals = cursor->literals;
    V x[8];
    for (unsigned k = 0; k < 8; k++)
        x[k] = _mm256_loadu_si256((const void *)(cursor->state + 8 * k));
    const V lower = _mm256_loadu_si256((const void *)attributes);
    const V upper = _mm256_loadu_si256((const void *)&attributes[8]);
    const V last = _mm256_set1_epi32((int)frame->contexts - 1), exponent_mask = _mm256_set1_epi32(frame->exponent_mask);
    const V slots = _mm256_set1_epi32(BX_SCALE - 1);
    const V literal = _mm256_set1_epi32(BX_LITERAL - BX_ZERO), is_extended = _mm256_set1_epi32(BX_EXTENDED - BX_ZERO);
    const V c7 = _mm256_set1_epi32(7), c63 = _mm256_set1_epi32(63), c5 = _mm256_set1_epi32(BX_STEP_BITS);
    const V c16 = _mm256_set1_epi32(BX_EXTRA_BITS), c256 = _mm256_set1_epi32(256);
    const __m128i mantissa = _mm_cvtsi32_si128(frame->mantissa);
    for (size_t n = 0; n < count; n++) {
        const size_t start = (size_t)blocks[n] * BX_BLOCK * item;
        const V level = _mm256_set1_epi32(levels[blocks[n] / 2]);
        for (unsigned group = 0; group < 8; group += 2) {
            V attribute[2], shift[2], left[2], symbol[2];
            pair b[2], low[2];
            for (unsigned h = 0; h < 2; h++) {
                V *state = &x[group + h];
                const uint8_t *from = base + start + 8 * item * (group + h);
                b[h].part[0] = _mm256_loadu_si256((const void *)from);
                b[h].part[1] = item == 8 ? _mm256_loadu_si256((const void *)(from + 32)) : b[h].part[0];
                const V exponent = is_float ? wide_exponents(b[h], mantissa, exponent_mask, item)
                                            : _mm256_set1_epi32(BX_INTEGER_EXPONENT);
                const V number = _mm256_min_epu32(_mm256_sub_epi32(_mm256_max_epu32(exponent, level), level), last);
                attribute[h] = _mm256_blendv_epi8(_mm256_permutevar8x32_epi32(lower, number),
                                                  _mm256_permutevar8x32_epi32(upper, number),
                                                  _mm256_cmpgt_epi32(number, c7));
                shift[h] = _mm256_and_si256(attribute[h], c63);
                const V bits = _mm256_min_epu32(shift[h], c5);
                left[h] = _mm256_sub_epi32(shift[h], bits);
                const V turned = _mm256_srlv_epi32(*state, bits);
                const V taken = _mm256_sub_epi32(*state, _mm256_sllv_epi32(turned, bits));
                low[h] = item == 8 ? widen(taken) : (pair){{taken, taken}};
                const V at = _mm256_add_epi32(_mm256_and_si256(turned, slots), _mm256_srli_epi32(attribute[h], 16));
                const V entry = _mm256_i32gather_epi32((const int *)direct_table, at, 4);
                symbol[h] = _mm256_srai_epi32(entry, 27);
                *state = refill(take_symbols(entry, turned), &words);
            }
            for (unsigned step = 0; step < frame->extra_steps; step++) {
                const __m128i done = _mm_cvtsi32_si128((int)(BX_STEP_BITS + BX_EXTRA_BITS * step));
                for (unsigned h = 0; h < 2; h++) {
                    const V bits = _mm256_min_epu32(left[h], c16), more = take_extra(&x[group + h], bits, &words);
                    left[h] = _mm256_sub_epi32(left[h], bits);
                    if (item == 4) {
                        low[h].part[0] = _mm256_or_si256(low[h].part[0], _mm256_sll_epi32(more, done));
                        continue;
                    }
                    const pair wider = widen(more);
                    for (unsigned v = 0; v < 2; v++)
                        low[h].part[v] = _mm256_or_si256(low[h].part[v], _mm256_sll_epi64(wider.part[v], done));
                }
            }
            for (unsigned h = 0; h < 2; h++) {
                const size_t at = start + 8 * item * (group + h);
                const V is_direct = _mm256_cmpeq_epi32(_mm256_and_si256(attribute[h], c256), c256);
                restore_wide(frame, b[h], symbol[h], symbol[h], shift[h], is_direct, low[h], out + at, item, is_float);
                const V is_last = _mm256_cmpeq_epi32(symbol[h], is_extended),
                        is_first = _mm256_cmpeq_epi32(symbol[h], literal);
                unsigned of_far = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(is_last));
                unsigned is_literal = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(is_first));
                if (ZF_LIKELY(!(of_far | is_literal)))
                    continue;
                const unsigned direct = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(is_direct));
                is_literal = (is_literal & ~direct) | (of_far & direct);
                const V apart = _mm256_cvtepi8_epi32(expand(of_far & ~direct, &extended_literals));
                restore_wide(frame, b[h], symbol[h], _mm256_blendv_epi8(symbol[h], apart, is_last), shift[h], is_direct,
                             low[h], out + at, item, is_float);
                if (is_literal)
                    put_literals(is_literal, direct, base + at, out + at, &literals, item, is_float);
            }
        }
    }
    for (unsigned k = 0; k < 8; k++)
        _mm256_storeu_si256((void *)(cursor->state + 8 * k), x[k]);
    cursor->words = words;
    cursor->extended_literals = extended_literals;
    cursor->literals = literals;
}

BX_KERNEL_AVX2(floats_4, wide, 4, 1)
BX_KERNEL_AVX2(integers_4, wide, 4, 0)
BX_KERNEL_AVX2(floats_8, wide, 8, 1)
BX_KERNEL_AVX2(integers_8, wide, 8, 0)

void bx_decode_wide_avx2(const bx_frame *frame, const uint32_t *direct_table, const uint32_t *blocks, size_t count,
                         const uint16_t *levels, const uint8_t *base, uint8_t *out, bx_cursor *cursor) {
    const int is_float = frame->exponent_mask != 0;
    bx_kernel *by = frame->item == 4 ? (is_float ? floats_4 : integers_4) : is_float ? floats_8 : integers_8;
    by(frame, direct_table, blocks, count, levels, base, out, cursor);
}

#endif
