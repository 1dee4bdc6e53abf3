/* The delta decoder with AVX2: 2-byte items whose steps take no extra words, and all 4-byte items. */
#include "delta.h"

#if ZF_X86

#define V __m256i

/* Byte j: how many of the lanes below j take a word, if the bits of the index say which lanes do. */
#define RANK(m, j) ((uint64_t)__builtin_popcount((m) & ((1 << (j)) - 1)) << 8 * (j))
#define RANKS(m) (RANK(m, 0) | RANK(m, 1) | RANK(m, 2) | RANK(m, 3) | RANK(m, 4) | RANK(m, 5) | RANK(m, 6) | RANK(m, 7))
#define RANKS4(m) RANKS(m), RANKS((m) + 1), RANKS((m) + 2), RANKS((m) + 3)
#define RANKS16(m) RANKS4(m), RANKS4((m) + 4), RANKS4((m) + 8), RANKS4((m) + 12)
#define RANKS64(m) RANKS16(m), RANKS16((m) + 16), RANKS16((m) + 32), RANKS16((m) + 48)
static const uint64_t ranks[256] = {RANKS64(0), RANKS64(64), RANKS64(128), RANKS64(192)};

ZF_INLINE ZF_TARGET_AVX2 V refill(V x, const uint8_t **words) {
    const V few = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(few));
    const V order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)&ranks[mask]));
    V next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)*words));
    next = _mm256_permutevar8x32_epi32(next, order);
    *words += 2 * (unsigned)_mm_popcnt_u32(mask);
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), next), few);
}

/* States after their symbols, before they are refilled. */
ZF_INLINE ZF_TARGET_AVX2 V step(V entry, V turned) {
    const V frequency = _mm256_and_si256(_mm256_srli_epi32(entry, 16), _mm256_set1_epi32(ZD_SCALE - 1));
    return _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(turned, ZD_PRECISION)),
                            _mm256_and_si256(entry, _mm256_set1_epi32(0xFFFF)));
}

/* Even words of `a`, odd words from the lower halves of `b`. */
ZF_INLINE ZF_TARGET_AVX2 V weave(V a, V b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA); }

ZF_INLINE ZF_TARGET_AVX2 void kernel(const zd_frame *frame, const uint32_t *direct_table, const uint32_t *blocks,
                                     size_t count, const uint16_t *levels, const uint8_t *base, uint8_t *out,
                                     zd_cursor *cursor, const int is_float) {
    uint8_t attributes[16] = {0};
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = (uint8_t)(frame->context[k].table << 3 | frame->context[k].shift);
    const uint8_t *words = cursor->words;
    V x[8];
    for (unsigned k = 0; k < 8; k++)
        x[k] = _mm256_loadu_si256((const void *)(cursor->state + 8 * k));
    const V of_context = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)attributes));
    const V powers = _mm256_set1_epi64x(0x201008040201);
    const V last = _mm256_set1_epi16((short)(frame->contexts - 1));
    const V exponent_mask = _mm256_set1_epi16((short)frame->exponent_mask), sign = _mm256_set1_epi16((short)0x8000);
    const __m128i mantissa = _mm_cvtsi32_si128(frame->mantissa);
    const V even = _mm256_set1_epi32(0xFFFF), slots = _mm256_set1_epi32(ZD_SCALE - 1);
    const V one = _mm256_set1_epi16(1), c7 = _mm256_set1_epi16(7), c38 = _mm256_set1_epi16(0x38);
    const V escaped = _mm256_set1_epi16(ZD_ESCAPE - ZD_ZERO), far = _mm256_set1_epi16(ZD_FAR - ZD_ZERO);
    for (size_t n = 0; n < count; n++) {
        const size_t start = (size_t)blocks[n] * ZD_BLOCK * 2;
        const V level = _mm256_set1_epi16((short)levels[blocks[n] / 2]);
        for (unsigned half = 0; half < 2; half++) {
            const uint8_t *from = base + start + 64 * half;
            uint8_t *to = out + start + 64 * half;
            V b[2], shift[2], table[2], power[2], low[2], quotients[4];
            for (unsigned h = 0; h < 2; h++) {
                b[h] = _mm256_loadu_si256((const void *)(from + 32 * h));
                V exponent = is_float ? _mm256_and_si256(_mm256_srl_epi16(b[h], mantissa), exponent_mask)
                                      : _mm256_set1_epi16(ZD_INTEGER_EXPONENT);
                V number = _mm256_min_epi16(_mm256_subs_epu16(exponent, level), last);
                V attribute = _mm256_shuffle_epi8(of_context, _mm256_or_si256(number, sign));
                shift[h] = _mm256_and_si256(attribute, c7);
                table[h] = _mm256_slli_epi16(_mm256_and_si256(attribute, c38), ZD_PRECISION - 3);
                power[h] = _mm256_shuffle_epi8(powers, _mm256_or_si256(shift[h], sign));
                low[h] = _mm256_and_si256(weave(x[4 * half + h], x[4 * half + 2 + h]),
                                          _mm256_sub_epi16(power[h], one));
            }
            for (unsigned k = 0; k < 4; k++) {
                const unsigned h = k & 1, odd = k >> 1;
                V *state = &x[4 * half + k];
                V bits = odd ? _mm256_srli_epi32(shift[h], 16) : _mm256_and_si256(shift[h], even);
                V row = odd ? _mm256_srli_epi32(table[h], 16) : _mm256_and_si256(table[h], even);
                V turned = _mm256_srlv_epi32(*state, bits);
                V at = _mm256_or_si256(_mm256_and_si256(turned, slots), row);
                V entry = _mm256_i32gather_epi32((const int *)direct_table, at, 4);
                quotients[k] = _mm256_srai_epi32(entry, 27);
                *state = refill(step(entry, turned), &words);
            }
            for (unsigned h = 0; h < 2; h++) {
                V quotient = weave(quotients[h], quotients[2 + h]);
                V d = _mm256_add_epi16(_mm256_mullo_epi16(quotient, power[h]), low[h]);
                V restored;
                if (is_float) {
                    V turn = _mm256_and_si256(b[h], sign);
                    V ordered = _mm256_add_epi16(_mm256_xor_si256(b[h], turn), d);
                    restored = _mm256_srli_epi16(_mm256_srai_epi16(ordered, 15), 1);
                    restored = _mm256_xor_si256(_mm256_xor_si256(ordered, restored), turn);
                } else {
                    restored = _mm256_add_epi16(b[h], d);
                }
                _mm256_storeu_si256((void *)(to + 32 * h), restored);
                V unusual = _mm256_or_si256(_mm256_cmpeq_epi16(quotient, escaped), _mm256_cmpeq_epi16(quotient, far));
                unsigned special = (unsigned)_mm256_movemask_epi8(unusual) & 0x55555555;
                if (ZF_LIKELY(!special))
                    continue;
                uint16_t quotients_here[16], all_shifts[16], all_lows[16];
                _mm256_storeu_si256((void *)quotients_here, quotient);
                _mm256_storeu_si256((void *)all_shifts, shift[h]);
                _mm256_storeu_si256((void *)all_lows, low[h]);
                do {
                    const unsigned k = (unsigned)__builtin_ctz(special) / 2;
                    uint64_t residual;
                    if (quotients_here[k] == (uint16_t)(ZD_ESCAPE - ZD_ZERO)) {
                        residual = zf_get16(cursor->escapes);
                        cursor->escapes += 2;
                    } else {
                        residual = ((uint64_t)(int64_t)(int8_t)*cursor->fars++ << all_shifts[k]) | all_lows[k];
                    }
                    zf_put16(to + 32 * h + 2 * k, (uint16_t)zd_restore(residual, zf_get16(from + 32 * h + 2 * k), 2,
                                                                       is_float));
                    special &= special - 1;
                } while (special);
            }
        }
    }
    for (unsigned k = 0; k < 8; k++)
        _mm256_storeu_si256((void *)(cursor->state + 8 * k), x[k]);
    cursor->words = words;
}

/* The item in a context that is direct, or whose symbol is none of the usual ones. */
static uint32_t unusual_item(const zd_frame *frame, unsigned symbol, uint32_t low, uint32_t b,
                             const zd_context *context, zd_cursor *cursor) {
    uint32_t residual;
    if (context->direct && symbol != ZD_FAR) {
        const uint32_t turned = (frame->top_exponent - symbol) << (frame->mantissa + 1) | low;
        return turned >> 1 | turned << 31;
    }
    if (context->direct || symbol == ZD_ESCAPE) {
        residual = zf_get32(cursor->escapes);
        cursor->escapes += 4;
        if (context->direct)
            return residual;
    } else {
        residual = (uint32_t)(int32_t)(int8_t)*cursor->fars++ << context->shift | low;
    }
    return (uint32_t)zd_restore(residual, b, 4, frame->exponent_mask != 0);
}

static ZF_NOINLINE ZF_TARGET_AVX2 void wide(const zd_frame *frame, const uint32_t *direct_table, const uint32_t *blocks,
                                            size_t count, const uint16_t *levels, const uint8_t *base, uint8_t *out,
                                            zd_cursor *cursor) {
    uint32_t attributes[ZD_CONTEXTS] = {0};
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = frame->context[k].shift | (uint32_t)frame->context[k].direct << 8 |
                        (uint32_t)frame->context[k].table * ZD_SCALE << 16;
    const uint8_t *words = cursor->words;
    const int is_float = frame->exponent_mask != 0;
    V x[8];
    for (unsigned k = 0; k < 8; k++)
        x[k] = _mm256_loadu_si256((const void *)(cursor->state + 8 * k));
    const V lower = _mm256_loadu_si256((const void *)attributes);
    const V upper = _mm256_loadu_si256((const void *)&attributes[8]);
    const V last = _mm256_set1_epi32((int)frame->contexts - 1), exponent_mask = _mm256_set1_epi32(frame->exponent_mask);
    const V slots = _mm256_set1_epi32(ZD_SCALE - 1);
    const V escaped = _mm256_set1_epi32(ZD_ESCAPE - ZD_ZERO), far = _mm256_set1_epi32(ZD_FAR - ZD_ZERO);
    const V c7 = _mm256_set1_epi32(7), c63 = _mm256_set1_epi32(63), c5 = _mm256_set1_epi32(ZD_STEP_BITS);
    const V c16 = _mm256_set1_epi32(ZD_EXTRA_BITS), c256 = _mm256_set1_epi32(256), zero = _mm256_setzero_si256();
    const V sign = _mm256_set1_epi32(is_float ? (int)0x80000000u : 0);
    const __m128i mantissa = _mm_cvtsi32_si128(frame->mantissa);
    for (size_t n = 0; n < count; n++) {
        const size_t start = (size_t)blocks[n] * ZD_BLOCK * 4;
        const V level = _mm256_set1_epi32(levels[blocks[n] / 2]);
        for (unsigned group = 0; group < 8; group += 2) {
            V b[2], attribute[2], shift[2], left[2], low[2], quotient[2];
            for (unsigned h = 0; h < 2; h++) {
                V *state = &x[group + h];
                b[h] = _mm256_loadu_si256((const void *)(base + start + 32 * (group + h)));
                V exponent = is_float ? _mm256_and_si256(_mm256_srl_epi32(b[h], mantissa), exponent_mask)
                                      : _mm256_set1_epi32(ZD_INTEGER_EXPONENT);
                V number = _mm256_min_epu32(_mm256_sub_epi32(_mm256_max_epu32(exponent, level), level), last);
                attribute[h] = _mm256_blendv_epi8(_mm256_permutevar8x32_epi32(lower, number),
                                                  _mm256_permutevar8x32_epi32(upper, number),
                                                  _mm256_cmpgt_epi32(number, c7));
                shift[h] = _mm256_and_si256(attribute[h], c63);
                const V bits = _mm256_min_epu32(shift[h], c5);
                left[h] = _mm256_sub_epi32(shift[h], bits);
                V turned = _mm256_srlv_epi32(*state, bits);
                low[h] = _mm256_sub_epi32(*state, _mm256_sllv_epi32(turned, bits));
                V at = _mm256_add_epi32(_mm256_and_si256(turned, slots), _mm256_srli_epi32(attribute[h], 16));
                V entry = _mm256_i32gather_epi32((const int *)direct_table, at, 4);
                quotient[h] = _mm256_srai_epi32(entry, 27);
                *state = refill(step(entry, turned), &words);
            }
            for (unsigned step = 0; step < frame->extra_steps; step++) {
                const __m128i done = _mm_cvtsi32_si128((int)(ZD_STEP_BITS + ZD_EXTRA_BITS * step));
                for (unsigned h = 0; h < 2; h++) {
                    const V bits = _mm256_min_epu32(left[h], c16), rest = _mm256_srlv_epi32(x[group + h], bits);
                    const V more = _mm256_sub_epi32(x[group + h], _mm256_sllv_epi32(rest, bits));
                    low[h] = _mm256_or_si256(low[h], _mm256_sll_epi32(more, done));
                    left[h] = _mm256_sub_epi32(left[h], bits);
                    x[group + h] = refill(rest, &words);
                }
            }
            for (unsigned h = 0; h < 2; h++) {
                uint8_t *to = out + start + 32 * (group + h);
                V d = _mm256_or_si256(_mm256_sllv_epi32(quotient[h], shift[h]), low[h]);
                V turn = _mm256_and_si256(b[h], sign), ordered = _mm256_add_epi32(_mm256_xor_si256(b[h], turn), d);
                V fold = is_float ? _mm256_srli_epi32(_mm256_srai_epi32(ordered, 31), 1) : zero;
                _mm256_storeu_si256((void *)to, _mm256_xor_si256(_mm256_xor_si256(ordered, fold), turn));
                V unusual =
                    _mm256_or_si256(_mm256_cmpeq_epi32(quotient[h], escaped), _mm256_cmpeq_epi32(quotient[h], far));
                V is_direct = _mm256_cmpeq_epi32(_mm256_and_si256(attribute[h], c256), c256);
                unusual = _mm256_or_si256(unusual, is_direct);
                unsigned special = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(unusual));
                if (ZF_LIKELY(!special))
                    continue;
                uint32_t quotients[8], lows[8], all[8], bases[8];
                _mm256_storeu_si256((void *)quotients, quotient[h]);
                _mm256_storeu_si256((void *)lows, low[h]);
                _mm256_storeu_si256((void *)all, attribute[h]);
                _mm256_storeu_si256((void *)bases, b[h]);
                for (; special; special &= special - 1) {
                    const unsigned k = (unsigned)__builtin_ctz(special);
                    const zd_context context = {0, all[k] & 63, all[k] >> 8 & 1};
                    zf_put32(to + 4 * k, unusual_item(frame, quotients[k] + ZD_ZERO, lows[k], bases[k], &context, cursor));
                }
            }
        }
    }
    for (unsigned k = 0; k < 8; k++)
        _mm256_storeu_si256((void *)(cursor->state + 8 * k), x[k]);
    cursor->words = words;
}

static ZF_NOINLINE ZF_TARGET_AVX2 void of_floats(const zd_frame *frame, const uint32_t *direct_table,
                                                 const uint32_t *blocks, size_t count, const uint16_t *levels,
                                                 const uint8_t *base, uint8_t *out, zd_cursor *cursor) {
    kernel(frame, direct_table, blocks, count, levels, base, out, cursor, 1);
}

static ZF_NOINLINE ZF_TARGET_AVX2 void of_integers(const zd_frame *frame, const uint32_t *direct_table,
                                                   const uint32_t *blocks, size_t count, const uint16_t *levels,
                                                   const uint8_t *base, uint8_t *out, zd_cursor *cursor) {
    kernel(frame, direct_table, blocks, count, levels, base, out, cursor, 0);
}

void zd_decode_avx2(const zd_frame *frame, const uint32_t *direct_table, const uint32_t *blocks, size_t count,
                    const uint16_t *levels, const uint8_t *base, uint8_t *out, zd_cursor *cursor) {
    zd_kernel *by = frame->item == 4 ? wide : frame->exponent_mask ? of_floats : of_integers;
    by(frame, direct_table, blocks, count, levels, base, out, cursor);
}

#endif
