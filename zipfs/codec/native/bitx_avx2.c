/* The bitx decoder with AVX2 for items of 1 and 2 bytes. */
#include "bitx_avx2.h"

#if ZF_X86

#define RANK(m, j) ((uint64_t)__builtin_popcount((m) & ((1 << (j)) - 1)) << 8 * (j))
#define RANKS(m) (RANK(m, 0) | RANK(m, 1) | RANK(m, 2) | RANK(m, 3) | RANK(m, 4) | RANK(m, 5) | RANK(m, 6) | RANK(m, 7))
#define RANKS4(m) RANKS(m), RANKS((m) + 1), RANKS((m) + 2), RANKS((m) + 3)
#define RANKS16(m) RANKS4(m), RANKS4((m) + 4), RANKS4((m) + 8), RANKS4((m) + 12)
#define RANKS64(m) RANKS16(m), RANKS16((m) + 16), RANKS16((m) + 32), RANKS16((m) + 48)
const uint64_t bx_ranks[256] = {RANKS64(0), RANKS64(64), RANKS64(128), RANKS64(192)};

/* Even words of `a`, odd words from the lower halves of `b`. */
ZF_INLINE ZF_TARGET_AVX2 V weave(V a, V b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA); }

/* A bit for each of 16 words. */
ZF_INLINE ZF_TARGET_AVX2 unsigned word_mask(V of) {
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm256_castsi256_si128(of), _mm256_extracti128_si256(of, 1)));
}

/* Stores what 16 items decode to; those of direct contexts are `own`. */
ZF_INLINE ZF_TARGET_AVX2 void restore_narrow(V b, V quotient, V power, V low, V own, V is_direct, uint8_t *to,
                                             const unsigned item, const int is_float, const int may_direct) {
    V restored = _mm256_add_epi16(_mm256_mullo_epi16(quotient, power), low);
    if (item == 1)
        restored = _mm256_slli_epi16(restored, 8);
    if (is_float) {
        const V turn = _mm256_and_si256(b, _mm256_set1_epi16((short)0x8000));
        const V ordered = _mm256_add_epi16(_mm256_xor_si256(b, turn), restored);
        const V fold = _mm256_srli_epi16(_mm256_srai_epi16(ordered, 15), 1);
        restored = _mm256_xor_si256(_mm256_xor_si256(ordered, fold), turn);
    } else {
        restored = _mm256_add_epi16(b, restored);
    }
    if (may_direct)
        restored = _mm256_blendv_epi8(restored, own, is_direct);
    if (item == 2) {
        _mm256_storeu_si256((void *)to, restored);
        return;
    }
    const V upper = _mm256_srli_epi16(restored, 8);
    const V packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(upper, upper), 0xD8);
    _mm_storeu_si128((void *)to, _mm256_castsi256_si128(packed));
}

/* Items of 1 and 2 bytes, 16 words of them to a register, of which the even ones belong to one register of states and
   the odd ones to another.  An item of 1 byte stands in the upper half of its word. */
ZF_INLINE ZF_TARGET_AVX2 void narrow(const bx_frame *frame, const uint32_t *direct_table, const uint32_t *blocks,
                                     size_t count, const uint16_t *levels, const uint8_t *base, uint8_t *out,
                                     bx_cursor *cursor, const unsigned item, const int is_float, const int has_extra,
                                     const int may_direct) {
    uint8_t attributes[16] = {0};
    for (unsigned k = 0; k < frame->contexts; k++) {
        const bx_context *context = &frame->context[k];
        attributes[k] = (uint8_t)(context->table << 4 | context->shift | context->direct << 7);
    }
    const uint8_t *words = cursor->words, *extended_literals = cursor->extended_literals, *literals = cursor->literals;
    V x[8];
    for (unsigned k = 0; k < 8; k++)
        x[k] = _mm256_loadu_si256((const void *)(cursor->state + 8 * k));
    const V of_context = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)attributes));
    const V powers = _mm256_set_epi64x(0, (long long)0x8040201008040201u, 0, (long long)0x8040201008040201u);
    const V upper_powers = _mm256_set_epi64x((long long)0x8040201008040201u, 0, (long long)0x8040201008040201u, 0);
    const V last = _mm256_set1_epi16((short)(frame->contexts - 1));
    const V exponent_mask = _mm256_set1_epi16((short)frame->exponent_mask), sign = _mm256_set1_epi16((short)0x8000);
    const __m128i mantissa = _mm_cvtsi32_si128(frame->mantissa + (item == 1 ? 8 : 0));
    const __m128i direct_shift = _mm_cvtsi32_si128(frame->mantissa + 1);
    const V top = _mm256_set1_epi16((short)(frame->top_exponent - BX_ZERO));
    const V even = _mm256_set1_epi32(0xFFFF), slots = _mm256_set1_epi32(BX_SCALE - 1);
    const V one = _mm256_set1_epi16(1), c15 = _mm256_set1_epi16(15), c70 = _mm256_set1_epi16(0x70);
    const V c80 = _mm256_set1_epi16(0x80), cff = _mm256_set1_epi16(0xFF), c5 = _mm256_set1_epi16(BX_STEP_BITS);
    const V literal = _mm256_set1_epi16(BX_LITERAL - BX_ZERO), is_extended = _mm256_set1_epi16(BX_EXTENDED - BX_ZERO);
    for (size_t n = 0; n < count; n++) {
        const size_t start = (size_t)blocks[n] * BX_BLOCK * item;
        const V level = _mm256_set1_epi16((short)levels[blocks[n] / 2]);
        for (unsigned half = 0; half < 2; half++) {
            const uint8_t *from = base + start + 32 * item * half;
            uint8_t *to = out + start + 32 * item * half;
            V b[2], bits[2], power[2], table[2], low[2], extra[2], is_direct[2], quotients[4], extras[4];
            for (unsigned h = 0; h < 2; h++) {
                if (item == 2)
                    b[h] = _mm256_loadu_si256((const void *)(from + 32 * h));
                else
                    b[h] = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(from + 16 * h))), 8);
                const V exponent = is_float ? _mm256_and_si256(_mm256_srl_epi16(b[h], mantissa), exponent_mask)
                                            : _mm256_set1_epi16(BX_INTEGER_EXPONENT);
                const V number = _mm256_min_epi16(_mm256_subs_epu16(exponent, level), last);
                const V attribute = _mm256_shuffle_epi8(of_context, _mm256_or_si256(number, sign));
                const V shift = _mm256_and_si256(attribute, c15);
                bits[h] = has_extra ? _mm256_min_epi16(shift, c5) : shift;
                table[h] = _mm256_slli_epi16(_mm256_and_si256(attribute, c70), BX_PRECISION - 4);
                power[h] = _mm256_shuffle_epi8(powers, _mm256_or_si256(bits[h], sign));
                low[h] = _mm256_and_si256(weave(x[4 * half + h], x[4 * half + 2 + h]), _mm256_sub_epi16(power[h], one));
                if (has_extra) {
                    extra[h] = _mm256_sub_epi16(shift, bits[h]);
                    power[h] = _mm256_shuffle_epi8(powers, _mm256_or_si256(shift, sign));
                    const V upper = _mm256_or_si256(_mm256_slli_epi16(shift, 8), c80);
                    power[h] = _mm256_or_si256(power[h], _mm256_shuffle_epi8(upper_powers, upper));
                }
                is_direct[h] = _mm256_cmpeq_epi16(_mm256_and_si256(attribute, c80), c80);
            }
#pragma GCC unroll 4
            for (unsigned k = 0; k < 4; k++) {
                const unsigned h = k & 1, odd = k >> 1;
                V *state = &x[4 * half + k];
                const V own_bits = odd ? _mm256_srli_epi32(bits[h], 16) : _mm256_and_si256(bits[h], even);
                const V row = odd ? _mm256_srli_epi32(table[h], 16) : _mm256_and_si256(table[h], even);
                const V turned = _mm256_srlv_epi32(*state, own_bits);
                const V at = _mm256_or_si256(_mm256_and_si256(turned, slots), row);
                const V entry = _mm256_i32gather_epi32((const int *)direct_table, at, 4);
                quotients[k] = _mm256_srai_epi32(entry, 27);
                *state = refill(take_symbols(entry, turned), &words);
                if (!has_extra || !h)
                    continue;
                for (unsigned j = k - 1; j <= k; j++) {
                    const V more = odd ? _mm256_srli_epi32(extra[j & 1], 16) : _mm256_and_si256(extra[j & 1], even);
                    extras[j] = take_extra(&x[4 * half + j], more, &words);
                }
            }
            for (unsigned h = 0; h < 2; h++) {
                const V symbol = weave(quotients[h], quotients[2 + h]);
                if (has_extra)
                    low[h] = _mm256_or_si256(low[h], _mm256_slli_epi16(weave(extras[h], extras[2 + h]), BX_STEP_BITS));
                V own = symbol;
                if (may_direct) {
                    own = _mm256_or_si256(_mm256_sll_epi16(_mm256_sub_epi16(top, symbol), direct_shift), low[h]);
                    own = item == 2 ? _mm256_srli_epi16(own, 1)
                                    : _mm256_slli_epi16(_mm256_srli_epi16(_mm256_and_si256(own, cff), 1), 8);
                    own = _mm256_or_si256(own, _mm256_slli_epi16(low[h], 15));
                }
                restore_narrow(b[h], symbol, power[h], low[h], own, is_direct[h], to + 16 * item * h, item, is_float,
                               may_direct);
                const V is_last = _mm256_cmpeq_epi16(symbol, is_extended),
                        is_first = _mm256_cmpeq_epi16(symbol, literal);
                if (ZF_LIKELY(!_mm256_movemask_epi8(_mm256_or_si256(is_first, is_last))))
                    continue;
                unsigned of_far = word_mask(is_last), is_literal = word_mask(is_first), direct = 0;
                if (may_direct) {
                    direct = word_mask(is_direct[h]);
                    is_literal = (is_literal & ~direct) | (of_far & direct);
                    of_far &= ~direct;
                }
                const __m128i first = expand(of_far & 255, &extended_literals),
                              second = expand(of_far >> 8, &extended_literals);
                const V apart = _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(first, second));
                restore_narrow(b[h], _mm256_blendv_epi8(symbol, apart, is_last), power[h], low[h], own, is_direct[h],
                               to + 16 * item * h, item, is_float, may_direct);
                if (is_literal)
                    put_literals(is_literal, direct, from + 16 * item * h, to + 16 * item * h, &literals, item,
                                 is_float);
            }
        }
    }
    for (unsigned k = 0; k < 8; k++)
        _mm256_storeu_si256((void *)(cursor->state + 8 * k), x[k]);
    cursor->words = words;
    cursor->extended_literals = extended_literals;
    cursor->literals = literals;
}

BX_KERNEL_AVX2(floats_1, narrow, 1, 1, 0, 1)
BX_KERNEL_AVX2(integers_1, narrow, 1, 0, 0, 0)
BX_KERNEL_AVX2(floats_2, narrow, 2, 1, 0, 0)
BX_KERNEL_AVX2(extra_floats_2, narrow, 2, 1, 1, 1)
BX_KERNEL_AVX2(integers_2, narrow, 2, 0, 1, 0)

void bx_decode_narrow_avx2(const bx_frame *frame, const uint32_t *direct_table, const uint32_t *blocks, size_t count,
                           const uint16_t *levels, const uint8_t *base, uint8_t *out, bx_cursor *cursor) {
    const int is_float = frame->exponent_mask != 0;
    bx_kernel *by;
    if (frame->item == 1)
        by = is_float ? floats_1 : integers_1;
    else
        by = !is_float ? integers_2 : frame->extra_steps || frame->has_direct ? extra_floats_2 : floats_2;
    by(frame, direct_table, blocks, count, levels, base, out, cursor);
}

#endif
