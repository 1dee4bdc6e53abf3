/* The bitx decoder with AVX-512: 64 lanes in four registers; tables are looked up 64 bytes at a time in registers. */
#include "bitx.h"

#if ZF_X86

#define V __m512i

typedef struct {
    V divider[2], other[2], frequency_low[2], frequency_high[2], offset_low[2], offset_high[2];
} tables;

ZF_INLINE ZF_TARGET_AVX512 void load_pair(V *pair, const uint8_t *bytes) {
    pair[0] = _mm512_loadu_si512(bytes);
    pair[1] = _mm512_loadu_si512(bytes + 64);
}

ZF_INLINE ZF_TARGET_AVX512 void load_tables(tables *to, const bx_alias *alias) {
    uint8_t bytes[6][BX_TABLES * BX_SYMBOLS];
    for (unsigned k = 0; k < BX_TABLES * BX_SYMBOLS; k++) {
        bytes[0][k] = (uint8_t)alias->divider[k];
        bytes[1][k] = (uint8_t)(alias->divider[k] >> 8 | (k & 0xF0));
        bytes[2][k] = (uint8_t)alias->frequency[k];
        bytes[3][k] = (uint8_t)(alias->frequency[k] >> 8);
        bytes[4][k] = (uint8_t)alias->offset[k];
        bytes[5][k] = (uint8_t)(alias->offset[k] >> 8);
    }
    load_pair(to->divider, bytes[0]);
    load_pair(to->other, bytes[1]);
    load_pair(to->frequency_low, bytes[2]);
    load_pair(to->frequency_high, bytes[3]);
    load_pair(to->offset_low, bytes[4]);
    load_pair(to->offset_high, bytes[5]);
}

ZF_INLINE ZF_TARGET_AVX512 V look_up(const V *pair, V at) { return _mm512_permutex2var_epi8(pair[0], at, pair[1]); }

/* (mask & a) | (~mask & b) */
ZF_INLINE ZF_TARGET_AVX512 V merge(V mask, V a, V b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xCA); }

/* Lanes below BX_LOW take a word each, in order. */
ZF_INLINE ZF_TARGET_AVX512 V refill(V x, const uint8_t **words) {
    const __mmask16 few = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(BX_LOW));
    const V next = _mm512_maskz_expand_epi32(few, _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)*words)));
    *words += 2 * (unsigned)_mm_popcnt_u32(few);
    return _mm512_mask_or_epi32(x, few, _mm512_slli_epi32(x, 16), next);
}

/* One extra step: its uncoded bits, and the state without them. */
ZF_INLINE ZF_TARGET_AVX512 V extra_step(V *x, V bits, const uint8_t **words) {
    const V rest = _mm512_srlv_epi32(*x, bits), low = _mm512_sub_epi32(*x, _mm512_sllv_epi32(rest, bits));
    *x = refill(rest, words);
    return low;
}

/* Items of 1 and 2 bytes.  A register of 32 words holds a half of the block: its even words belong to one register of
   states, its odd ones to the next.  An item of 1 byte stands in the upper half of its word. */
ZF_INLINE ZF_TARGET_AVX512 void narrow(const bx_frame *frame, const uint32_t *blocks, size_t count,
                                       const uint16_t *levels, const uint8_t *base, uint8_t *out, bx_cursor *cursor,
                                       const unsigned item, const int is_float, const int has_extra) {
    uint16_t attributes[32] = {0};
    for (unsigned k = 0; k < frame->contexts; k++) {
        const bx_context *context = &frame->context[k];
        attributes[k] = (uint16_t)(context->table << 4 | context->shift | context->direct << 15);
    }
    const uint8_t *words = cursor->words, *extended_literals = cursor->extended_literals, *literals = cursor->literals;
    tables t;
    load_tables(&t, &frame->alias);
    V x[4];
    for (unsigned k = 0; k < 4; k++)
        x[k] = _mm512_loadu_si512(cursor->state + 16 * k);
    const V of_context = _mm512_loadu_si512(attributes), last = _mm512_set1_epi16((short)(frame->contexts - 1));
    const V exponent_mask = _mm512_set1_epi16((short)frame->exponent_mask);
    const __m128i mantissa = _mm_cvtsi32_si128(frame->mantissa + (item == 1 ? 8 : 0));
    const V top = _mm512_set1_epi16((short)frame->top_exponent);
    const __m128i direct_shift = _mm_cvtsi32_si128(frame->mantissa + 1);
    const V c15 = _mm512_set1_epi16(15), c8 = _mm512_set1_epi16(8), c5 = _mm512_set1_epi16(BX_STEP_BITS);
    const V c70 = _mm512_set1_epi16(0x70), c7f = _mm512_set1_epi16(0x7F), cff = _mm512_set1_epi16(0xFF);
    const V c7ff = _mm512_set1_epi16(BX_SCALE - 1), one = _mm512_set1_epi16(1), even = _mm512_set1_epi32(0xFFFF);
    const V sign = _mm512_set1_epi16((short)0x8000);
    for (size_t n = 0; n < count; n++) {
        const size_t start = (size_t)blocks[n] * BX_BLOCK * item;
        const V level = _mm512_set1_epi16((short)levels[blocks[n] / 2]);
        V b[2], shift[2], step_bits[2], table[2], low[2], place[2], bucket[2], turned[4];
        __mmask32 direct[2] = {0, 0};
        for (unsigned h = 0; h < 2; h++) {
            if (item == 2)
                b[h] = _mm512_loadu_si512(base + start + 64 * h);
            else
                b[h] = _mm512_slli_epi16(
                    _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(base + start + 32 * h))), 8);
            V exponent = is_float ? _mm512_and_si512(_mm512_srl_epi16(b[h], mantissa), exponent_mask)
                                  : _mm512_set1_epi16(BX_INTEGER_EXPONENT);
            V attribute = _mm512_permutexvar_epi16(_mm512_min_epu16(_mm512_subs_epu16(exponent, level), last),
                                                   of_context);
            shift[h] = _mm512_and_si512(attribute, c15);
            step_bits[h] = has_extra ? _mm512_min_epu16(shift[h], c5) : shift[h];
            table[h] = _mm512_and_si512(attribute, c70);
            if (has_extra)
                direct[h] = _mm512_movepi16_mask(attribute);
            V *xa = &x[2 * h], *xb = &x[2 * h + 1];
            V low_mask = _mm512_sub_epi16(_mm512_sllv_epi16(one, step_bits[h]), one);
            low[h] = _mm512_and_si512(low_mask, merge(even, *xa, _mm512_slli_epi32(*xb, 16)));
            turned[2 * h] = _mm512_srlv_epi32(*xa, _mm512_and_si512(step_bits[h], even));
            turned[2 * h + 1] = _mm512_srlv_epi32(*xb, _mm512_srli_epi32(step_bits[h], 16));
            V slot = merge(even, turned[2 * h], _mm512_slli_epi32(turned[2 * h + 1], 16));
            place[h] = _mm512_and_si512(slot, c7f);
            bucket[h] = _mm512_or_si512(_mm512_srli_epi16(_mm512_and_si512(slot, c7ff), 7), table[h]);
        }
        const V at = _mm512_or_si512(bucket[0], _mm512_slli_epi16(bucket[1], 8));
        const V places = _mm512_or_si512(place[0], _mm512_slli_epi16(place[1], 8));
        const __mmask64 of_other = _mm512_cmpge_epu8_mask(places, look_up(t.divider, at));
        const V symbols = _mm512_mask_mov_epi8(at, of_other, look_up(t.other, at));
        const V frequency_low = look_up(t.frequency_low, symbols), frequency_high = look_up(t.frequency_high, symbols);
        const V offset_low = _mm512_maskz_mov_epi8(of_other, look_up(t.offset_low, at)),
                offset_high = _mm512_maskz_mov_epi8(of_other, look_up(t.offset_high, at));
        for (unsigned h = 0; h < 2; h++) {
            V frequency = h ? merge(cff, _mm512_srli_epi16(frequency_low, 8), frequency_high)
                            : merge(cff, frequency_low, _mm512_slli_epi16(frequency_high, 8));
            V offset = h ? merge(cff, _mm512_srli_epi16(offset_low, 8), offset_high)
                         : merge(cff, offset_low, _mm512_slli_epi16(offset_high, 8));
            offset = _mm512_add_epi16(offset, place[h]);
            V *xa = &x[2 * h], *xb = &x[2 * h + 1];
            *xa = _mm512_add_epi32(
                _mm512_mullo_epi32(_mm512_and_si512(frequency, even), _mm512_srli_epi32(turned[2 * h], BX_PRECISION)),
                _mm512_and_si512(offset, even));
            *xb = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(frequency, 16),
                                                      _mm512_srli_epi32(turned[2 * h + 1], BX_PRECISION)),
                                   _mm512_srli_epi32(offset, 16));
            *xa = refill(*xa, &words);
            if (has_extra) {
                const V extra = _mm512_sub_epi16(shift[h], step_bits[h]);
                V a = extra_step(xa, _mm512_and_si512(extra, even), &words);
                *xb = refill(*xb, &words);
                V c = extra_step(xb, _mm512_srli_epi32(extra, 16), &words);
                a = merge(even, a, _mm512_slli_epi32(c, 16));
                low[h] = _mm512_or_si512(low[h], _mm512_slli_epi16(a, BX_STEP_BITS));
            } else {
                *xb = refill(*xb, &words);
            }
            const V symbol = _mm512_and_si512(h ? _mm512_srli_epi16(symbols, 8) : symbols, c15);
            const __mmask32 is_last = _mm512_cmpeq_epi16_mask(symbol, c15);
            const __mmask32 is_first = _mm512_testn_epi16_mask(symbol, symbol);
            __mmask32 is_extended = is_last, is_literal = is_first;
            if (has_extra) {
                is_extended = is_last & ~direct[h];
                is_literal = (is_first & ~direct[h]) | (is_last & direct[h]);
            }
            V quotient = _mm512_sub_epi16(symbol, c8);
            quotient = _mm512_mask_expand_epi16(
                quotient, is_extended, _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)extended_literals)));
            extended_literals += _mm_popcnt_u32(is_extended);
            V d = _mm512_or_si512(_mm512_sllv_epi16(quotient, shift[h]), low[h]);
            V literal = d;
            if (ZF_UNLIKELY(is_literal)) {
                V items = item == 2 ? _mm512_loadu_si512(literals)
                                    : _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)literals));
                literal = _mm512_mask_expand_epi16(d, is_literal, items);
                literals += item * (unsigned)_mm_popcnt_u32(is_literal);
                d = literal;
            }
            if (item == 1)
                d = _mm512_slli_epi16(d, 8);
            V restored;
            if (is_float) {
                V turn = _mm512_and_si512(b[h], sign);
                V ordered = _mm512_add_epi16(_mm512_xor_si512(b[h], turn), d);
                restored = _mm512_ternarylogic_epi32(ordered, _mm512_srli_epi16(_mm512_srai_epi16(ordered, 15), 1),
                                                     turn, 0x96);
            } else {
                restored = _mm512_add_epi16(b[h], d);
            }
            if (has_extra && direct[h]) {
                V own = _mm512_or_si512(_mm512_sll_epi16(_mm512_sub_epi16(top, symbol), direct_shift), low[h]);
                if (item == 2)
                    own = _mm512_or_si512(_mm512_srli_epi16(own, 1), _mm512_slli_epi16(own, 15));
                else
                    own = _mm512_or_si512(_mm512_slli_epi16(_mm512_srli_epi16(_mm512_and_si512(own, cff), 1), 8),
                                          _mm512_slli_epi16(own, 15));
                own = _mm512_mask_mov_epi16(own, is_literal, item == 1 ? _mm512_slli_epi16(literal, 8) : literal);
                restored = _mm512_mask_mov_epi16(restored, direct[h], own);
            }
            if (item == 2)
                _mm512_storeu_si512(out + start + 64 * h, restored);
            else
                _mm256_storeu_si256((void *)(out + start + 32 * h),
                                    _mm512_cvtepi16_epi8(_mm512_srli_epi16(restored, 8)));
        }
    }
    for (unsigned k = 0; k < 4; k++)
        _mm512_storeu_si512(cursor->state + 16 * k, x[k]);
    cursor->words = words;
    cursor->extended_literals = extended_literals;
    cursor->literals = literals;
}

/* Items of 4 bytes: 16 of them to a register, as the states are. */
ZF_INLINE ZF_TARGET_AVX512 void wide(const bx_frame *frame, const uint32_t *blocks, size_t count,
                                     const uint16_t *levels, const uint8_t *base, uint8_t *out, bx_cursor *cursor,
                                     const int is_float, const unsigned extra_steps) {
    uint32_t attributes[16] = {0};
    for (unsigned k = 0; k < frame->contexts; k++) {
        const bx_context *context = &frame->context[k];
        attributes[k] = (uint32_t)(context->table << 8 | context->shift) | (uint32_t)context->direct << 31;
    }
    const uint8_t *words = cursor->words, *extended_literals = cursor->extended_literals, *literals = cursor->literals;
    tables t;
    load_tables(&t, &frame->alias);
    V x[4];
    for (unsigned k = 0; k < 4; k++)
        x[k] = _mm512_loadu_si512(cursor->state + 16 * k);
    const V of_context = _mm512_loadu_si512(attributes), last = _mm512_set1_epi32((int)frame->contexts - 1);
    const V exponent_mask = _mm512_set1_epi32(frame->exponent_mask), top = _mm512_set1_epi32((int)frame->top_exponent);
    const __m128i mantissa = _mm_cvtsi32_si128(frame->mantissa), direct_shift = _mm_cvtsi32_si128(frame->mantissa + 1);
    const V c15 = _mm512_set1_epi32(15), c8 = _mm512_set1_epi32(8), c5 = _mm512_set1_epi32(BX_STEP_BITS);
    const V c16 = _mm512_set1_epi32(BX_EXTRA_BITS), c63 = _mm512_set1_epi32(63), c7 = _mm512_set1_epi32(0x700);
    const V c7f = _mm512_set1_epi32(0x7F), cff = _mm512_set1_epi32(0xFF), c7ff = _mm512_set1_epi32(BX_SCALE - 1);
    const V sign = _mm512_set1_epi32((int)0x80000000u), zero = _mm512_setzero_si512();
    for (size_t n = 0; n < count; n++) {
        const size_t start = (size_t)blocks[n] * BX_BLOCK * 4;
        const V level = _mm512_set1_epi32(levels[blocks[n] / 2]);
        V b[4], shift[4], step_bits[4], low[4], place[4], turned[4], at = zero, places = zero;
        __mmask16 direct[4];
#pragma GCC unroll 4
        for (unsigned v = 0; v < 4; v++) {
            b[v] = _mm512_loadu_si512(base + start + 64 * v);
            V exponent = is_float ? _mm512_and_si512(_mm512_srl_epi32(b[v], mantissa), exponent_mask)
                                  : _mm512_set1_epi32(BX_INTEGER_EXPONENT);
            V number = _mm512_min_epu32(_mm512_sub_epi32(_mm512_max_epu32(exponent, level), level), last);
            V attribute = _mm512_permutexvar_epi32(number, of_context);
            direct[v] = _mm512_movepi32_mask(attribute);
            shift[v] = _mm512_and_si512(attribute, c63);
            step_bits[v] = _mm512_min_epu32(shift[v], c5);
            turned[v] = _mm512_srlv_epi32(x[v], step_bits[v]);
            low[v] = _mm512_sub_epi32(x[v], _mm512_sllv_epi32(turned[v], step_bits[v]));
            V slot = _mm512_and_si512(turned[v], c7ff);
            place[v] = _mm512_and_si512(slot, c7f);
            V bucket = _mm512_or_si512(_mm512_srli_epi32(slot, 7),
                                       _mm512_srli_epi32(_mm512_and_si512(attribute, c7), 4));
            at = _mm512_or_si512(at, _mm512_slli_epi32(bucket, 8 * v));
            places = _mm512_or_si512(places, _mm512_slli_epi32(place[v], 8 * v));
        }
        const __mmask64 of_other = _mm512_cmpge_epu8_mask(places, look_up(t.divider, at));
        const V symbols = _mm512_mask_mov_epi8(at, of_other, look_up(t.other, at));
        const V frequency_low = look_up(t.frequency_low, symbols), frequency_high = look_up(t.frequency_high, symbols);
        const V offset_low = _mm512_maskz_mov_epi8(of_other, look_up(t.offset_low, at)),
                offset_high = _mm512_maskz_mov_epi8(of_other, look_up(t.offset_high, at));
#pragma GCC unroll 4
        for (unsigned v = 0; v < 4; v++) {
            V frequency = merge(cff, _mm512_srli_epi32(frequency_low, 8 * v),
                                v ? _mm512_srli_epi32(frequency_high, 8 * v - 8)
                                  : _mm512_slli_epi32(frequency_high, 8));
            V offset = merge(cff, _mm512_srli_epi32(offset_low, 8 * v),
                             v ? _mm512_srli_epi32(offset_high, 8 * v - 8) : _mm512_slli_epi32(offset_high, 8));
            const V even = _mm512_set1_epi32(0xFFFF);
            offset = _mm512_and_si512(_mm512_add_epi32(offset, place[v]), even);
            x[v] = _mm512_add_epi32(
                _mm512_mullo_epi32(_mm512_and_si512(frequency, even), _mm512_srli_epi32(turned[v], BX_PRECISION)),
                offset);
            x[v] = refill(x[v], &words);
            V left = _mm512_sub_epi32(shift[v], step_bits[v]);
            for (unsigned step = 0; step < extra_steps; step++) {
                V bits = _mm512_min_epu32(left, c16), more = extra_step(&x[v], bits, &words);
                low[v] = _mm512_or_si512(
                    low[v], _mm512_sll_epi32(more, _mm_cvtsi32_si128((int)(BX_STEP_BITS + BX_EXTRA_BITS * step))));
                left = _mm512_sub_epi32(left, bits);
            }
            const V symbol = _mm512_and_si512(_mm512_srli_epi32(symbols, 8 * v), c15);
            const __mmask16 is_last = _mm512_cmpeq_epi32_mask(symbol, c15);
            const __mmask16 is_first = _mm512_testn_epi32_mask(symbol, symbol);
            const __mmask16 is_extended = is_last & (__mmask16)~direct[v];
            const __mmask16 is_literal = (__mmask16)((is_first & ~direct[v]) | (is_last & direct[v]));
            V quotient = _mm512_mask_expand_epi32(
                _mm512_sub_epi32(symbol, c8), is_extended,
                _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)extended_literals)));
            extended_literals += _mm_popcnt_u32(is_extended);
            V d = _mm512_or_si512(_mm512_sllv_epi32(quotient, shift[v]), low[v]);
            if (ZF_UNLIKELY(is_literal)) {
                d = _mm512_mask_expand_epi32(d, is_literal, _mm512_loadu_si512(literals));
                literals += 4 * (unsigned)_mm_popcnt_u32(is_literal);
            }
            V restored;
            if (is_float) {
                V turn = _mm512_and_si512(b[v], sign);
                V ordered = _mm512_add_epi32(_mm512_xor_si512(b[v], turn), d);
                restored = _mm512_ternarylogic_epi32(ordered, _mm512_srli_epi32(_mm512_srai_epi32(ordered, 31), 1),
                                                     turn, 0x96);
            } else {
                restored = _mm512_add_epi32(b[v], d);
            }
            if (ZF_UNLIKELY(direct[v])) {
                V own = _mm512_or_si512(_mm512_sll_epi32(_mm512_sub_epi32(top, symbol), direct_shift), low[v]);
                own = _mm512_mask_mov_epi32(_mm512_ror_epi32(own, 1), is_literal, d);
                restored = _mm512_mask_mov_epi32(restored, direct[v], own);
            }
            _mm512_storeu_si512(out + start + 64 * v, restored);
        }
    }
    for (unsigned k = 0; k < 4; k++)
        _mm512_storeu_si512(cursor->state + 16 * k, x[k]);
    cursor->words = words;
    cursor->extended_literals = extended_literals;
    cursor->literals = literals;
}

/* One function for each kind: in a common one the compiler would keep fewer tables in registers. */
#define NARROW(name, item, is_float, has_extra)                                                                \
    static ZF_NOINLINE ZF_TARGET_AVX512 void name(const bx_frame *frame, const uint32_t *blocks, size_t count, \
                                                  const uint16_t *levels, const uint8_t *base, uint8_t *out,   \
                                                  bx_cursor *cursor) {                                         \
        narrow(frame, blocks, count, levels, base, out, cursor, item, is_float, has_extra);                    \
    }
#define WIDE(name, is_float, extra_steps)                                                                      \
    static ZF_NOINLINE ZF_TARGET_AVX512 void name(const bx_frame *frame, const uint32_t *blocks, size_t count, \
                                                  const uint16_t *levels, const uint8_t *base, uint8_t *out,   \
                                                  bx_cursor *cursor) {                                         \
        wide(frame, blocks, count, levels, base, out, cursor, is_float, extra_steps);                          \
    }

NARROW(float2, 2, 1, 0)
NARROW(float2_extra, 2, 1, 1)
NARROW(integer2, 2, 0, 0)
NARROW(integer2_extra, 2, 0, 1)
NARROW(float1, 1, 1, 0)
NARROW(float1_extra, 1, 1, 1)
NARROW(integer1, 1, 0, 0)
WIDE(float4, 1, frame->extra_steps)
WIDE(float4_one_extra, 1, 1)
WIDE(integer4, 0, frame->extra_steps)

void bx_decode_avx512(const bx_frame *frame, const uint32_t *direct_table, const uint32_t *blocks, size_t count,
                      const uint16_t *levels, const uint8_t *base, uint8_t *out, bx_cursor *cursor) {
    const int is_float = frame->exponent_mask != 0, has_extra = frame->extra_steps || frame->has_direct;
    void (*by)(const bx_frame *, const uint32_t *, size_t, const uint16_t *, const uint8_t *, uint8_t *, bx_cursor *);
    if (frame->item == 2)
        by = is_float ? has_extra ? float2_extra : float2 : has_extra ? integer2_extra : integer2;
    else if (frame->item == 1)
        by = is_float ? has_extra ? float1_extra : float1 : integer1;
    else
        by = !is_float ? integer4 : frame->extra_steps == 1 ? float4_one_extra : float4;
    by(frame, blocks, count, levels, base, out, cursor);
}

#endif
