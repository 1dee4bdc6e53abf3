/* The heavy parts of the bitx encoder with AVX2: items in lanes of 32 bits, whatever their size. */
#include "bitx_encode.h"

#if ZF_X86

#define V __m256i

ZF_INLINE ZF_TARGET_AVX2 V load_items(const uint8_t *p, const unsigned item) {
    if (item == 1)
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    if (item == 2)
        return _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_loadu_si256((const void *)p);
}

ZF_INLINE ZF_TARGET_AVX2 V extend_sign(V of, const unsigned item) {
    const int above = 32 - 8 * (int)item;
    return above ? _mm256_srai_epi32(_mm256_slli_epi32(of, above), above) : of;
}

/* As signed numbers of 32 bits. */
ZF_INLINE ZF_TARGET_AVX2 V residuals(V f, V b, const unsigned item, const int is_float) {
    if (!is_float)
        return extend_sign(_mm256_sub_epi32(f, b), item);
    const V sign = _mm256_set1_epi32((int)(0x80u << (8 * item - 8))),
            size = _mm256_set1_epi32((int)~(~0x7Fu << (8 * item - 8)));
    const V turned = extend_sign(_mm256_xor_si256(f, _mm256_and_si256(b, sign)), item);
    const V ordered = _mm256_xor_si256(turned, _mm256_and_si256(_mm256_srai_epi32(turned, 31), size));
    return extend_sign(_mm256_sub_epi32(ordered, _mm256_and_si256(b, size)), item);
}

ZF_INLINE ZF_TARGET_AVX2 V exponents(V b, const bx_frame *frame, const int is_float) {
    if (!is_float)
        return _mm256_set1_epi32(BX_INTEGER_EXPONENT);
    return _mm256_and_si256(_mm256_srl_epi32(b, _mm_cvtsi32_si128(frame->mantissa)),
                            _mm256_set1_epi32(frame->exponent_mask));
}

ZF_INLINE ZF_TARGET_AVX2 uint64_t measure(const bx_frame *frame, const uint8_t *raw, const uint8_t *base,
                                          unsigned reference, const unsigned item, const int is_float) {
    const V lowest = _mm256_set1_epi32((int)reference), most = _mm256_set1_epi32(BX_MEASURE_EXPONENTS);
    const V cap = _mm256_set1_epi32(BX_MEASURE_CAP), even = _mm256_set1_epi64x(0xFFFFFFFF);
    V sum = _mm256_setzero_si256();
    for (unsigned k = 0; k < BX_BLOCK; k += 8) {
        const V f = load_items(raw + k * item, item), b = load_items(base + k * item, item);
        const V size = _mm256_abs_epi32(residuals(f, b, item, is_float)), exponent = exponents(b, frame, is_float);
        const V up = _mm256_min_epu32(_mm256_sub_epi32(_mm256_max_epu32(exponent, lowest), lowest), most);
        if (item <= 2) {
            sum = _mm256_add_epi32(sum, _mm256_sllv_epi32(_mm256_min_epu32(size, cap), up));
            continue;
        }
        sum = _mm256_add_epi64(sum, _mm256_sllv_epi64(_mm256_and_si256(size, even), _mm256_and_si256(up, even)));
        sum = _mm256_add_epi64(sum, _mm256_sllv_epi64(_mm256_srli_epi64(size, 32), _mm256_srli_epi64(up, 32)));
    }
    if (item <= 2)
        sum = _mm256_add_epi64(_mm256_and_si256(sum, even), _mm256_srli_epi64(sum, 32));
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}

ZF_TARGET_AVX2 void bx_measure_avx2(const bx_frame *frame, const bx_input *input, unsigned reference,
                                    uint64_t *magnitudes) {
    const int is_float = frame->exponent_mask != 0;
    for (size_t n = 0; n < input->listed; n++) {
        const uint32_t block = input->blocks[n];
        const size_t at = (size_t)block * BX_BLOCK * frame->item;
        const uint8_t *raw = input->raw + at, *base = input->base + at;
        uint64_t *sum = &magnitudes[block / 2];
        if (((size_t)block + 1) * BX_BLOCK > frame->items) {
            bx_measure_portable(frame, &(bx_input){input->raw, input->base, input->blocks + n, 1}, reference,
                                magnitudes);
            continue;
        }
        switch (2 * frame->item + (unsigned)is_float) {
        case 2: *sum += measure(frame, raw, base, reference, 1, 0); break;
        case 3: *sum += measure(frame, raw, base, reference, 1, 1); break;
        case 4: *sum += measure(frame, raw, base, reference, 2, 0); break;
        case 5: *sum += measure(frame, raw, base, reference, 2, 1); break;
        case 8: *sum += measure(frame, raw, base, reference, 4, 0); break;
        default: *sum += measure(frame, raw, base, reference, 4, 1);
        }
    }
}

/* Keys and low bits of 8 items. */
typedef struct {
    V keys, lows;
} symbolised;

typedef struct {
    uint8_t *extended_literals, *literals;
} raw_streams;

ZF_INLINE ZF_TARGET_AVX2 symbolised symbolise_8(const bx_frame *frame, const uint8_t *raw, const uint8_t *base, V level,
                                                V of_context, raw_streams *to, const unsigned item,
                                                const int is_float) {
    const V one = _mm256_set1_epi32(1), c8 = _mm256_set1_epi32(BX_ZERO), c15 = _mm256_set1_epi32(BX_EXTENDED);
    const V last = _mm256_set1_epi32((int)frame->contexts - 1);
    const V f = load_items(raw, item), b = load_items(base, item);
    const V exponent = exponents(b, frame, is_float);
    const V number = _mm256_min_epu32(_mm256_sub_epi32(_mm256_max_epu32(exponent, level), level), last);
    const V attribute = _mm256_shuffle_epi8(of_context, _mm256_or_si256(number, _mm256_set1_epi32((int)0x80808000u)));
    const V shift = _mm256_and_si256(attribute, _mm256_set1_epi32(63)), d = residuals(f, b, item, is_float);
    const V direct = _mm256_cmpgt_epi32(attribute, _mm256_set1_epi32(127));
    const V quotient = _mm256_srav_epi32(d, shift);
    V is_extended = _mm256_or_si256(_mm256_cmpgt_epi32(quotient, _mm256_set1_epi32(BX_EXTENDED - BX_ZERO - 1)),
                                    _mm256_cmpgt_epi32(_mm256_set1_epi32(1 - BX_ZERO), quotient));
    V is_literal = _mm256_or_si256(_mm256_cmpgt_epi32(quotient, _mm256_set1_epi32(127)),
                                   _mm256_cmpgt_epi32(_mm256_set1_epi32(-128), quotient));
    V symbol = _mm256_add_epi32(quotient, c8), low = d, value = d;
    if (is_float && frame->has_direct) {
        const V all = _mm256_set1_epi32((int)(0xFFFFFFFFu >> (32 - 8 * item)));
        const V own = _mm256_and_si256(
            all, _mm256_or_si256(_mm256_slli_epi32(f, 1), _mm256_srli_epi32(f, 8 * (int)item - 1)));
        const V upper = _mm256_srl_epi32(own, _mm_cvtsi32_si128(frame->mantissa + 1));
        const V below = _mm256_min_epu32(_mm256_sub_epi32(_mm256_set1_epi32((int)frame->top_exponent), upper), c15);
        is_extended = _mm256_andnot_si256(direct, is_extended);
        is_literal = _mm256_blendv_epi8(is_literal, _mm256_cmpeq_epi32(below, c15), direct);
        symbol = _mm256_blendv_epi8(symbol, below, direct);
        low = _mm256_blendv_epi8(low, own, direct);
        value = _mm256_blendv_epi8(value, f, direct);
        /* A direct literal keeps symbol 15, another one has symbol 0. */
        symbol = _mm256_andnot_si256(_mm256_andnot_si256(direct, is_literal), symbol);
    } else {
        symbol = _mm256_andnot_si256(is_literal, symbol);
    }
    is_extended = _mm256_andnot_si256(is_literal, is_extended);
    symbol = _mm256_blendv_epi8(symbol, c15, is_extended);
    low = _mm256_and_si256(low, _mm256_sub_epi32(_mm256_sllv_epi32(one, shift), one));
    low = _mm256_andnot_si256(is_literal, low);
    unsigned of_far = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(is_extended));
    unsigned of_literal = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(is_literal));
    if (ZF_UNLIKELY(of_far | of_literal)) {
        uint32_t quotients[8], values[8];
        _mm256_storeu_si256((void *)quotients, quotient);
        _mm256_storeu_si256((void *)values, value);
        for (; of_far; of_far &= of_far - 1)
            *to->extended_literals++ = (uint8_t)quotients[__builtin_ctz(of_far)];
        for (; of_literal; of_literal &= of_literal - 1) {
            bx_store(to->literals, values[__builtin_ctz(of_literal)], item);
            to->literals += item;
        }
    }
    return (symbolised){_mm256_or_si256(_mm256_slli_epi32(number, 4), symbol), low};
}

ZF_INLINE ZF_TARGET_AVX2 void symbolise(const bx_frame *frame, const bx_input *input, size_t from, size_t to,
                                        const uint16_t *levels, bx_symbols *symbols, const unsigned item,
                                        const int is_float) {
    uint8_t attributes[16] = {0};
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = (uint8_t)(frame->context[k].shift | frame->context[k].direct << 7);
    const V of_context = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)attributes));
    const V in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    raw_streams streams = {symbols->extended_literals + symbols->extended_count,
                           symbols->literals + item * symbols->literals_count};
    for (size_t n = from; n < to; n++) {
        const V level = _mm256_set1_epi32(levels[input->blocks[n] / 2]);
        const size_t at = (size_t)input->blocks[n] * BX_BLOCK * item;
        for (unsigned k = 0; k < BX_BLOCK; k += 32) {
            symbolised of[4];
            for (unsigned v = 0; v < 4; v++)
                of[v] = symbolise_8(frame, input->raw + at + (k + 8 * v) * item, input->base + at + (k + 8 * v) * item,
                                    level, of_context, &streams, item, is_float);
            const V keys = _mm256_packus_epi16(_mm256_packus_epi32(of[0].keys, of[1].keys),
                                               _mm256_packus_epi32(of[2].keys, of[3].keys));
            _mm256_storeu_si256((void *)(symbols->keys + n * BX_BLOCK + k),
                                _mm256_permutevar8x32_epi32(keys, in_order));
            uint8_t *lows = symbols->lows + (n * BX_BLOCK + k) * bx_low_nbytes(item);
            for (unsigned v = 0; v < 4; v += item == 4 ? 1 : 2) {
                V low = of[v].lows;
                if (item <= 2)
                    low = _mm256_permute4x64_epi64(_mm256_packus_epi32(of[v].lows, of[v + 1].lows), 0xD8);
                _mm256_storeu_si256((void *)(lows + 8 * v * bx_low_nbytes(item)), low);
            }
        }
    }
    symbols->extended_count = (size_t)(streams.extended_literals - symbols->extended_literals);
    symbols->literals_count = (size_t)(streams.literals - symbols->literals) / item;
}

ZF_TARGET_AVX2 void bx_symbolise_avx2(const bx_frame *frame, const bx_input *input, size_t from, size_t to,
                                      const uint16_t *levels, bx_symbols *symbols) {
    switch (2 * frame->item + (frame->exponent_mask != 0)) {
    case 2: symbolise(frame, input, from, to, levels, symbols, 1, 0); break;
    case 3: symbolise(frame, input, from, to, levels, symbols, 1, 1); break;
    case 4: symbolise(frame, input, from, to, levels, symbols, 2, 0); break;
    case 5: symbolise(frame, input, from, to, levels, symbols, 2, 1); break;
    case 8: symbolise(frame, input, from, to, levels, symbols, 4, 0); break;
    default: symbolise(frame, input, from, to, levels, symbols, 4, 1);
    }
}

/* Byte j: the lane that comes to stand in lane j when those set in the index are moved together at the upper end. */
#define IS_AT(m, j, lane) \
    (((m) >> (lane) & 1) && __builtin_popcount((unsigned)(m) >> (lane) >> 1) == 7 - (j) ? (lane) : 0)
#define FROM(m, j)                                                                                                    \
    ((uint64_t)(IS_AT(m, j, 0) | IS_AT(m, j, 1) | IS_AT(m, j, 2) | IS_AT(m, j, 3) | IS_AT(m, j, 4) | IS_AT(m, j, 5) | \
                IS_AT(m, j, 6) | IS_AT(m, j, 7))                                                                      \
     << 8 * (j))
#define PACK(m) (FROM(m, 0) | FROM(m, 1) | FROM(m, 2) | FROM(m, 3) | FROM(m, 4) | FROM(m, 5) | FROM(m, 6) | FROM(m, 7))
#define PACKS4(m) PACK(m), PACK((m) + 1), PACK((m) + 2), PACK((m) + 3)
#define PACKS16(m) PACKS4(m), PACKS4((m) + 4), PACKS4((m) + 8), PACKS4((m) + 12)
#define PACKS64(m) PACKS16(m), PACKS16((m) + 16), PACKS16((m) + 32), PACKS16((m) + 48)
static const uint64_t packs[256] = {PACKS64(0), PACKS64(64), PACKS64(128), PACKS64(192)};

/* Lanes in `many` give up a word each: the last of them the highest in memory.  What is below is written over later. */
ZF_INLINE ZF_TARGET_AVX2 V give_up(V x, V many, uint8_t **words) {
    const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(many));
    const V order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)&packs[mask]));
    const V packed = _mm256_and_si256(_mm256_permutevar8x32_epi32(x, order), _mm256_set1_epi32(0xFFFF));
    _mm_storeu_si128((void *)(*words - 16),
                     _mm_packus_epi32(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1)));
    *words -= 2 * (unsigned)_mm_popcnt_u32(mask);
    return _mm256_blendv_epi8(x, _mm256_srli_epi32(x, 16), many);
}

ZF_INLINE ZF_TARGET_AVX2 V low_bits(V value, V bits) {
    const V one = _mm256_set1_epi32(1);
    return _mm256_and_si256(value, _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one));
}

/* What a step needs of a context and symbol: bits 0-10 frequency, 11-13 the low bits of the step itself, from 14 on where
   the symbol's slots begin. */
ZF_INLINE ZF_TARGET_AVX2 V code_symbols(V x, V step, V low, const void *slots, uint8_t **words) {
    const V frequency = _mm256_and_si256(step, _mm256_set1_epi32(BX_SCALE - 1)), one = _mm256_set1_epi32(1);
    const V bits = _mm256_and_si256(_mm256_srli_epi32(step, BX_PRECISION), _mm256_set1_epi32(7));
    const V most = _mm256_sub_epi32(frequency, one);
    const V above = _mm256_srlv_epi32(x, _mm256_sub_epi32(_mm256_set1_epi32(32 - BX_PRECISION), bits));
    x = give_up(x, _mm256_cmpgt_epi32(above, most), words);
    /* The quotient is below 2^21, so that single precision misses it by one at most, even without the lowest bit. */
    const __m256 half = _mm256_mul_ps(_mm256_cvtepi32_ps(frequency), _mm256_set1_ps(0.5F));
    V quotient = _mm256_cvttps_epi32(_mm256_div_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(x, 1)), half));
    V rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, frequency));
    const V over = _mm256_srai_epi32(rest, 31);
    quotient = _mm256_add_epi32(quotient, over);
    rest = _mm256_add_epi32(rest, _mm256_and_si256(over, frequency));
    const V under = _mm256_cmpgt_epi32(rest, most);
    quotient = _mm256_sub_epi32(quotient, under);
    rest = _mm256_sub_epi32(rest, _mm256_and_si256(under, frequency));
    const V at = _mm256_add_epi32(_mm256_srli_epi32(step, BX_PRECISION + 3), rest);
    const V slot = _mm256_and_si256(_mm256_i32gather_epi32(slots, at, 2), _mm256_set1_epi32(0xFFFF));
    const V stepped = _mm256_or_si256(_mm256_slli_epi32(quotient, BX_PRECISION), slot);
    return _mm256_or_si256(_mm256_sllv_epi32(stepped, bits), low);
}

ZF_INLINE ZF_TARGET_AVX2 V code_extra(V x, V bits, V low, uint8_t **words) {
    const V beyond = _mm256_srlv_epi32(x, _mm256_sub_epi32(_mm256_set1_epi32(32), bits));
    x = give_up(x, _mm256_cmpgt_epi32(beyond, _mm256_setzero_si256()), words);
    return _mm256_or_si256(_mm256_sllv_epi32(x, bits), low);
}

/* The keys of 8 items that take their steps together, from `at` on. */
ZF_INLINE ZF_TARGET_AVX2 V load_keys(const uint8_t *at, unsigned odd, const unsigned item) {
    if (item > 2)
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)at));
    const __m128i both = _mm_loadu_si128((const void *)at);
    return _mm256_cvtepu16_epi32(odd ? _mm_srli_epi16(both, 8) : _mm_and_si128(both, _mm_set1_epi16(0xFF)));
}

/* Their low bits from bit `done` on, as far as 32 bits hold them. */
ZF_INLINE ZF_TARGET_AVX2 V load_lows(const uint8_t *at, unsigned odd, unsigned done, const unsigned item) {
    const __m128i by = _mm_cvtsi32_si128((int)done);
    const V first = _mm256_loadu_si256((const void *)at);
    if (item <= 2)
        return _mm256_srl_epi32(odd ? _mm256_srli_epi32(first, 16) : _mm256_and_si256(first, _mm256_set1_epi32(0xFFFF)),
                                by);
    if (item == 4)
        return _mm256_srl_epi32(first, by);
    const __m256 low = _mm256_castsi256_ps(_mm256_srl_epi64(first, by));
    const __m256 high = _mm256_castsi256_ps(_mm256_srl_epi64(_mm256_loadu_si256((const void *)(at + 32)), by));
    return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)), 0xD8);
}

ZF_INLINE ZF_TARGET_AVX2 uint8_t *code(const bx_frame *frame, const uint16_t (*slots)[BX_SCALE],
                                       const uint16_t (*first)[BX_SYMBOLS], const bx_symbols *symbols, size_t blocks,
                                       uint32_t *state, uint8_t *words, const unsigned item, const int has_extra) {
    uint32_t steps[BX_CONTEXTS * BX_SYMBOLS] = {0};
    uint8_t shifts[BX_CONTEXTS] = {0};
    for (unsigned k = 0; k < frame->contexts * BX_SYMBOLS; k++) {
        const bx_context *context = &frame->context[k / BX_SYMBOLS];
        const unsigned symbol = k % BX_SYMBOLS;
        steps[k] = frame->frequency[context->table][symbol] | bx_step_bits(context->shift) << BX_PRECISION |
                   (context->table * (uint32_t)BX_SCALE + first[context->table][symbol]) << (BX_PRECISION + 3);
        shifts[k / BX_SYMBOLS] = context->shift;
    }
    const unsigned low_nbytes = bx_low_nbytes(item), both = item > 2 ? 8 : 16;
    const V of_context = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)shifts));
    const V c16 = _mm256_set1_epi32(BX_EXTRA_BITS);
    V x[8];
    for (unsigned k = 0; k < 8; k++)
        x[k] = _mm256_loadu_si256((const void *)(state + 8 * k));
    for (size_t n = blocks; n-- > 0;)
#pragma GCC unroll 4
        for (unsigned group = 4; group-- > 0;) {
            const unsigned odd = item > 2 ? 0 : group & 1, from = item > 2 ? 16 * group : 32 * (group / 2);
            const uint8_t *keys = symbols->keys + n * BX_BLOCK + from;
            const uint8_t *lows = symbols->lows + (n * BX_BLOCK + from) * low_nbytes;
            V key[2];
            for (unsigned h = 0; h < 2; h++)
                key[h] = load_keys(keys + both * h, odd, item);
            for (unsigned step = has_extra ? frame->extra_steps : 0; step-- > 0;) {
                const unsigned done = BX_STEP_BITS + BX_EXTRA_BITS * step;
                const V before = _mm256_set1_epi32((int)done);
                for (unsigned h = 2; h-- > 0;) {
                    const V number = _mm256_or_si256(_mm256_srli_epi32(key[h], 4), _mm256_set1_epi32((int)0x80808000u));
                    V more = _mm256_max_epi32(_mm256_shuffle_epi8(of_context, number), before);
                    more = _mm256_min_epi32(_mm256_sub_epi32(more, before), c16);
                    const V low = low_bits(load_lows(lows + both * low_nbytes * h, odd, done, item), more);
                    x[2 * group + h] = code_extra(x[2 * group + h], more, low, &words);
                }
            }
            for (unsigned h = 2; h-- > 0;) {
                const V step = _mm256_i32gather_epi32((const int *)steps, key[h], 4);
                V low = load_lows(lows + both * low_nbytes * h, odd, 0, item);
                if (has_extra)
                    low = low_bits(low, _mm256_and_si256(_mm256_srli_epi32(step, BX_PRECISION), _mm256_set1_epi32(7)));
                x[2 * group + h] = code_symbols(x[2 * group + h], step, low, slots, &words);
            }
        }
    for (unsigned k = 0; k < 8; k++)
        _mm256_storeu_si256((void *)(state + 8 * k), x[k]);
    return words;
}

ZF_TARGET_AVX2 uint8_t *bx_code_avx2(const bx_frame *frame, const uint16_t (*slots)[BX_SCALE],
                                     const uint16_t (*first)[BX_SYMBOLS], const bx_symbols *symbols, size_t blocks,
                                     uint32_t *state, uint8_t *end) {
    switch (frame->item) {
    case 1: return code(frame, slots, first, symbols, blocks, state, end, 1, 0);
    case 2:
        if (!frame->extra_steps)
            return code(frame, slots, first, symbols, blocks, state, end, 2, 0);
        return code(frame, slots, first, symbols, blocks, state, end, 2, 1);
    case 4: return code(frame, slots, first, symbols, blocks, state, end, 4, 1);
    default: return code(frame, slots, first, symbols, blocks, state, end, 8, 1);
    }
}

#endif
