/* The heavy parts of the bitx encoder with AVX-512, for items of 1, 2 and 4 bytes. */
#include "bitx_encode.h"

#if ZF_X86

#define V __m512i

typedef struct {
    V exponent_mask, sign;
    __m128i mantissa;
} fields;

/* Items of 1 byte stand in the upper half of a word. */
ZF_INLINE ZF_TARGET_AVX512 fields narrow_fields(const bx_frame *frame, const unsigned item) {
    return (fields){_mm512_set1_epi16((short)frame->exponent_mask), _mm512_set1_epi16((short)0x8000),
                    _mm_cvtsi32_si128(frame->mantissa + (item == 1 ? 8 : 0))};
}

ZF_INLINE ZF_TARGET_AVX512 V narrow_load(const uint8_t *p, const unsigned item) {
    if (item == 2)
        return _mm512_loadu_si512(p);
    return _mm512_slli_epi16(_mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)p)), 8);
}

ZF_INLINE ZF_TARGET_AVX512 V narrow_residual(V f, V b, const fields *of, const int is_float) {
    if (!is_float)
        return _mm512_sub_epi16(f, b);
    const V turn = _mm512_and_si512(b, of->sign), turned = _mm512_xor_si512(f, turn);
    const V fold = _mm512_srli_epi16(_mm512_srai_epi16(turned, 15), 1);
    const V ordered = _mm512_xor_si512(turned, fold);
    return _mm512_sub_epi16(ordered, _mm512_xor_si512(b, turn));
}

ZF_INLINE ZF_TARGET_AVX512 V narrow_exponent(V b, const fields *of, const int is_float) {
    if (!is_float)
        return _mm512_set1_epi16(BX_INTEGER_EXPONENT);
    return _mm512_and_si512(_mm512_srl_epi16(b, of->mantissa), of->exponent_mask);
}

ZF_INLINE ZF_TARGET_AVX512 V wide_residual(V f, V b, const int is_float) {
    if (!is_float)
        return _mm512_sub_epi32(f, b);
    const V turn = _mm512_and_si512(b, _mm512_set1_epi32((int)0x80000000u)), turned = _mm512_xor_si512(f, turn);
    const V fold = _mm512_srli_epi32(_mm512_srai_epi32(turned, 31), 1);
    return _mm512_sub_epi32(_mm512_xor_si512(turned, fold), _mm512_xor_si512(b, turn));
}

ZF_INLINE ZF_TARGET_AVX512 V wide_exponent(V b, const bx_frame *frame, const int is_float) {
    if (!is_float)
        return _mm512_set1_epi32(BX_INTEGER_EXPONENT);
    return _mm512_and_si512(_mm512_srl_epi32(b, _mm_cvtsi32_si128(frame->mantissa)),
                            _mm512_set1_epi32(frame->exponent_mask));
}

ZF_INLINE ZF_TARGET_AVX512 uint64_t measure_narrow(const bx_frame *frame, const uint8_t *raw, const uint8_t *base,
                                                   unsigned reference, const unsigned item, const int is_float) {
    const fields of = narrow_fields(frame, item);
    const V lowest = _mm512_set1_epi16((short)reference), most = _mm512_set1_epi16(BX_MEASURE_EXPONENTS);
    const V cap = _mm512_set1_epi16(BX_MEASURE_CAP), even = _mm512_set1_epi32(0xFFFF);
    V sum = _mm512_setzero_si512();
    for (unsigned h = 0; h < 2; h++) {
        const V f = narrow_load(raw + 32 * item * h, item), b = narrow_load(base + 32 * item * h, item);
        V size = _mm512_abs_epi16(narrow_residual(f, b, &of, is_float));
        if (item == 1)
            size = _mm512_abs_epi16(_mm512_srai_epi16(narrow_residual(f, b, &of, is_float), 8));
        size = _mm512_min_epu16(size, cap);
        const V up = _mm512_min_epu16(_mm512_subs_epu16(narrow_exponent(b, &of, is_float), lowest), most);
        sum = _mm512_add_epi32(sum, _mm512_sllv_epi32(_mm512_and_si512(size, even), _mm512_and_si512(up, even)));
        sum = _mm512_add_epi32(sum, _mm512_sllv_epi32(_mm512_srli_epi32(size, 16), _mm512_srli_epi32(up, 16)));
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum);
}

ZF_INLINE ZF_TARGET_AVX512 uint64_t measure_wide(const bx_frame *frame, const uint8_t *raw, const uint8_t *base,
                                                 unsigned reference, const int is_float) {
    const V lowest = _mm512_set1_epi32((int)reference), most = _mm512_set1_epi32(BX_MEASURE_EXPONENTS);
    const V even = _mm512_set1_epi64(0xFFFFFFFF);
    V sum = _mm512_setzero_si512();
    for (unsigned v = 0; v < 4; v++) {
        const V f = _mm512_loadu_si512(raw + 64 * v), b = _mm512_loadu_si512(base + 64 * v);
        const V size = _mm512_abs_epi32(wide_residual(f, b, is_float)), exponent = wide_exponent(b, frame, is_float);
        const V up = _mm512_min_epu32(_mm512_sub_epi32(_mm512_max_epu32(exponent, lowest), lowest), most);
        sum = _mm512_add_epi64(sum, _mm512_sllv_epi64(_mm512_and_si512(size, even), _mm512_and_si512(up, even)));
        sum = _mm512_add_epi64(sum, _mm512_sllv_epi64(_mm512_srli_epi64(size, 32), _mm512_srli_epi64(up, 32)));
    }
    return (uint64_t)_mm512_reduce_add_epi64(sum);
}

ZF_TARGET_AVX512 void bx_measure_avx512(const bx_frame *frame, const bx_input *input, unsigned reference,
                                        uint64_t *magnitudes) {
    const int is_float = frame->exponent_mask != 0;
    for (size_t n = 0; n < input->listed; n++) {
        const uint32_t block = input->blocks[n];
        const size_t at = (size_t)block * BX_BLOCK * frame->item;
        const uint8_t *raw = input->raw + at, *base = input->base + at;
        if (((size_t)block + 1) * BX_BLOCK > frame->items)
            bx_measure_portable(frame, &(bx_input){input->raw, input->base, input->blocks + n, 1}, reference,
                                magnitudes);
        else if (frame->item == 2)
            magnitudes[block / 2] += is_float ? measure_narrow(frame, raw, base, reference, 2, 1)
                                              : measure_narrow(frame, raw, base, reference, 2, 0);
        else if (frame->item == 1)
            magnitudes[block / 2] += is_float ? measure_narrow(frame, raw, base, reference, 1, 1)
                                              : measure_narrow(frame, raw, base, reference, 1, 0);
        else
            magnitudes[block / 2] += is_float ? measure_wide(frame, raw, base, reference, 1)
                                              : measure_wide(frame, raw, base, reference, 0);
    }
}

ZF_INLINE ZF_TARGET_AVX512 void symbolise_narrow(const bx_frame *frame, const bx_input *input, size_t from, size_t to,
                                                 const uint16_t *levels, bx_symbols *symbols, const unsigned item,
                                                 const int is_float, const int may_direct) {
    uint16_t attributes[32] = {0};
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = (uint16_t)(frame->context[k].shift | frame->context[k].direct << 15);
    const fields of = narrow_fields(frame, item);
    const V of_context = _mm512_loadu_si512(attributes), last = _mm512_set1_epi16((short)(frame->contexts - 1));
    const V one = _mm512_set1_epi16(1), c7 = _mm512_set1_epi16(BX_ZERO - 1), c8 = _mm512_set1_epi16(BX_ZERO);
    const V c14 = _mm512_set1_epi16(BX_EXTENDED - 1), c15 = _mm512_set1_epi16(BX_EXTENDED),
            c128 = _mm512_set1_epi16(128);
    const V c256 = _mm512_set1_epi16(256), cff = _mm512_set1_epi16(255);
    const V top = _mm512_set1_epi16((short)frame->top_exponent);
    const __m128i direct_shift = _mm_cvtsi32_si128(frame->mantissa + 1);
    uint8_t *extended_literals = symbols->extended_literals + symbols->extended_count,
            *literals = symbols->literals + item * symbols->literals_count;
    for (size_t n = from; n < to; n++) {
        const V level = _mm512_set1_epi16((short)levels[input->blocks[n] / 2]);
        for (unsigned h = 0; h < 2; h++) {
            const size_t at = ((size_t)input->blocks[n] * BX_BLOCK + 32 * h) * item, place = n * BX_BLOCK + 32 * h;
            const V f = narrow_load(input->raw + at, item), b = narrow_load(input->base + at, item);
            const V number = _mm512_min_epu16(_mm512_subs_epu16(narrow_exponent(b, &of, is_float), level), last);
            const V attribute = _mm512_permutexvar_epi16(number, of_context);
            const V shift = may_direct ? _mm512_and_si512(attribute, c15) : attribute;
            V d = narrow_residual(f, b, &of, is_float);
            if (item == 1)
                d = _mm512_srai_epi16(d, 8);
            const __mmask32 direct = may_direct ? _mm512_movepi16_mask(attribute) : 0;
            const V quotient = _mm512_srav_epi16(d, shift);
            const __mmask32 out = _mm512_mask_cmpge_epu16_mask(~direct, _mm512_add_epi16(quotient, c7), c14);
            __mmask32 is_literal = _mm512_mask_cmpge_epu16_mask(out, _mm512_add_epi16(quotient, c128), c256);
            const __mmask32 is_extended = out & ~is_literal;
            V symbol = _mm512_mask_mov_epi16(_mm512_add_epi16(quotient, c8), is_extended, c15);
            symbol = _mm512_maskz_mov_epi16(~is_literal, symbol);
            V low = d, item_value = d;
            if (may_direct && direct) {
                V own = item == 2 ? f : _mm512_srli_epi16(f, 8);
                item_value = _mm512_mask_mov_epi16(d, direct, own);
                own = item == 2 ? _mm512_or_si512(_mm512_slli_epi16(own, 1), _mm512_srli_epi16(own, 15))
                                : _mm512_and_si512(
                                      cff, _mm512_or_si512(_mm512_slli_epi16(own, 1), _mm512_srli_epi16(own, 7)));
                V below = _mm512_min_epu16(_mm512_sub_epi16(top, _mm512_srl_epi16(own, direct_shift)), c15);
                symbol = _mm512_mask_mov_epi16(symbol, direct, below);
                low = _mm512_mask_mov_epi16(d, direct, own);
                is_literal |= _mm512_mask_cmpeq_epi16_mask(direct, below, c15);
            }
            low = _mm512_and_si512(low, _mm512_sub_epi16(_mm512_sllv_epi16(one, shift), one));
            low = _mm512_maskz_mov_epi16(~is_literal, low);
            if (is_extended) {
                _mm256_storeu_si256((void *)extended_literals,
                                    _mm512_cvtepi16_epi8(_mm512_maskz_compress_epi16(is_extended, quotient)));
                extended_literals += _mm_popcnt_u32(is_extended);
            }
            if (ZF_UNLIKELY(is_literal)) {
                const V packed = _mm512_maskz_compress_epi16(is_literal, item_value);
                if (item == 2)
                    _mm512_storeu_si512(literals, packed);
                else
                    _mm256_storeu_si256((void *)literals, _mm512_cvtepi16_epi8(packed));
                literals += item * (unsigned)_mm_popcnt_u32(is_literal);
            }
            _mm256_storeu_si256((void *)(symbols->keys + place),
                                _mm512_cvtepi16_epi8(_mm512_or_si512(_mm512_slli_epi16(number, 4), symbol)));
            _mm512_storeu_si512(symbols->lows + 2 * place, low);
        }
    }
    symbols->extended_count = (size_t)(extended_literals - symbols->extended_literals);
    symbols->literals_count = (size_t)(literals - symbols->literals) / item;
}

ZF_INLINE ZF_TARGET_AVX512 void symbolise_wide(const bx_frame *frame, const bx_input *input, size_t from, size_t to,
                                               const uint16_t *levels, bx_symbols *symbols, const int is_float) {
    uint32_t attributes[16] = {0};
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = frame->context[k].shift | (uint32_t)frame->context[k].direct << 31;
    const V of_context = _mm512_loadu_si512(attributes), last = _mm512_set1_epi32((int)frame->contexts - 1);
    const V one = _mm512_set1_epi32(1), c7 = _mm512_set1_epi32(BX_ZERO - 1), c8 = _mm512_set1_epi32(BX_ZERO);
    const V c14 = _mm512_set1_epi32(BX_EXTENDED - 1), c15 = _mm512_set1_epi32(BX_EXTENDED),
            c128 = _mm512_set1_epi32(128);
    const V c256 = _mm512_set1_epi32(256), c63 = _mm512_set1_epi32(63);
    const V top = _mm512_set1_epi32((int)frame->top_exponent);
    const __m128i direct_shift = _mm_cvtsi32_si128(frame->mantissa + 1);
    uint8_t *extended_literals = symbols->extended_literals + symbols->extended_count,
            *literals = symbols->literals + 4 * symbols->literals_count;
    for (size_t n = from; n < to; n++) {
        const V level = _mm512_set1_epi32(levels[input->blocks[n] / 2]);
        for (unsigned v = 0; v < 4; v++) {
            const size_t at = ((size_t)input->blocks[n] * BX_BLOCK + 16 * v) * 4, place = n * BX_BLOCK + 16 * v;
            const V f = _mm512_loadu_si512(input->raw + at), b = _mm512_loadu_si512(input->base + at);
            const V exponent = wide_exponent(b, frame, is_float);
            const V number = _mm512_min_epu32(_mm512_sub_epi32(_mm512_max_epu32(exponent, level), level), last);
            const V attribute = _mm512_permutexvar_epi32(number, of_context);
            const V shift = _mm512_and_si512(attribute, c63), d = wide_residual(f, b, is_float);
            const __mmask16 direct = _mm512_movepi32_mask(attribute);
            const V quotient = _mm512_srav_epi32(d, shift);
            const __mmask16 out = _mm512_mask_cmpge_epu32_mask((__mmask16)~direct, _mm512_add_epi32(quotient, c7), c14);
            __mmask16 is_literal = _mm512_mask_cmpge_epu32_mask(out, _mm512_add_epi32(quotient, c128), c256);
            const __mmask16 is_extended = out & (__mmask16)~is_literal;
            V symbol = _mm512_mask_mov_epi32(_mm512_add_epi32(quotient, c8), is_extended, c15);
            symbol = _mm512_maskz_mov_epi32((__mmask16)~is_literal, symbol);
            V low = d, item_value = d;
            if (ZF_UNLIKELY(direct)) {
                const V own = _mm512_rol_epi32(f, 1);
                const V below = _mm512_min_epu32(_mm512_sub_epi32(top, _mm512_srl_epi32(own, direct_shift)), c15);
                symbol = _mm512_mask_mov_epi32(symbol, direct, below);
                low = _mm512_mask_mov_epi32(d, direct, own);
                item_value = _mm512_mask_mov_epi32(d, direct, f);
                is_literal |= _mm512_mask_cmpeq_epi32_mask(direct, below, c15);
            }
            low = _mm512_and_si512(low, _mm512_sub_epi32(_mm512_sllv_epi32(one, shift), one));
            low = _mm512_maskz_mov_epi32((__mmask16)~is_literal, low);
            if (is_extended) {
                _mm_storeu_si128((void *)extended_literals,
                                 _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(is_extended, quotient)));
                extended_literals += _mm_popcnt_u32(is_extended);
            }
            if (ZF_UNLIKELY(is_literal)) {
                _mm512_storeu_si512(literals, _mm512_maskz_compress_epi32(is_literal, item_value));
                literals += 4 * (unsigned)_mm_popcnt_u32(is_literal);
            }
            _mm_storeu_si128((void *)(symbols->keys + place),
                             _mm512_cvtepi32_epi8(_mm512_or_si512(_mm512_slli_epi32(number, 4), symbol)));
            _mm512_storeu_si512(symbols->lows + 4 * place, low);
        }
    }
    symbols->extended_count = (size_t)(extended_literals - symbols->extended_literals);
    symbols->literals_count = (size_t)(literals - symbols->literals) / 4;
}

ZF_TARGET_AVX512 void bx_symbolise_avx512(const bx_frame *frame, const bx_input *input, size_t from, size_t to,
                                          const uint16_t *levels, bx_symbols *symbols) {
    const int is_float = frame->exponent_mask != 0;
    if (frame->item == 2 && is_float && !frame->extra_steps && !frame->has_direct)
        symbolise_narrow(frame, input, from, to, levels, symbols, 2, 1, 0);
    else if (frame->item == 2 && is_float)
        symbolise_narrow(frame, input, from, to, levels, symbols, 2, 1, 1);
    else if (frame->item == 2)
        symbolise_narrow(frame, input, from, to, levels, symbols, 2, 0, 0);
    else if (frame->item == 1 && is_float)
        symbolise_narrow(frame, input, from, to, levels, symbols, 1, 1, 1);
    else if (frame->item == 1)
        symbolise_narrow(frame, input, from, to, levels, symbols, 1, 0, 0);
    else if (is_float)
        symbolise_wide(frame, input, from, to, levels, symbols, 1);
    else
        symbolise_wide(frame, input, from, to, levels, symbols, 0);
}

typedef struct {
    V part[4];
} lookup;

ZF_INLINE ZF_TARGET_AVX512 lookup load_lookup(const uint16_t *entries) {
    return (lookup){{_mm512_loadu_si512(entries), _mm512_loadu_si512(entries + 32), _mm512_loadu_si512(entries + 64),
                     _mm512_loadu_si512(entries + 96)}};
}

ZF_INLINE ZF_TARGET_AVX512 V look_up(const lookup *in, V at, __mmask32 upper) {
    return _mm512_mask_blend_epi16(upper, _mm512_permutex2var_epi16(in->part[0], at, in->part[1]),
                                   _mm512_permutex2var_epi16(in->part[2], at, in->part[3]));
}

/* Lanes in `many` give up a word each: the last of them the highest in memory. */
ZF_INLINE ZF_TARGET_AVX512 V give_up(V x, __mmask16 many, uint8_t **words) {
    const unsigned count = (unsigned)_mm_popcnt_u32(many);
    *words -= 2 * count;
    _mm256_mask_storeu_epi16(*words, (__mmask16)((1u << count) - 1),
                             _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(many, x)));
    return _mm512_mask_srli_epi32(x, many, x, 16);
}

ZF_INLINE ZF_TARGET_AVX512 V code_symbols(V x, V frequency, V begin, V bits, V low, const void *slots,
                                          uint8_t **words) {
    const V one = _mm512_set1_epi32(1), even = _mm512_set1_epi32(0xFFFF);
    const V limit = _mm512_sllv_epi32(frequency, _mm512_sub_epi32(_mm512_set1_epi32(32 - BX_PRECISION), bits));
    x = give_up(x, _mm512_cmpge_epu32_mask(x, limit), words);
    /* The quotient is below 2^21, so that single precision misses it by one at most. */
    const __m512 divisor = _mm512_cvtepi32_ps(frequency), near = _mm512_rcp14_ps(divisor);
    const __m512 reciprocal = _mm512_fmadd_ps(near, _mm512_fnmadd_ps(near, divisor, _mm512_set1_ps(1)), near);
    V quotient = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), reciprocal));
    V rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, frequency));
    const __mmask16 over = _mm512_movepi32_mask(rest);
    quotient = _mm512_mask_sub_epi32(quotient, over, quotient, one);
    rest = _mm512_mask_add_epi32(rest, over, rest, frequency);
    const __mmask16 under = _mm512_cmpge_epu32_mask(rest, frequency);
    quotient = _mm512_mask_add_epi32(quotient, under, quotient, one);
    rest = _mm512_mask_sub_epi32(rest, under, rest, frequency);
    const V slot = _mm512_and_si512(even, _mm512_i32gather_epi32(_mm512_add_epi32(begin, rest), slots, 2));
    const V stepped = _mm512_or_si512(_mm512_slli_epi32(quotient, BX_PRECISION), slot);
    return _mm512_or_si512(_mm512_sllv_epi32(stepped, bits), low);
}

ZF_INLINE ZF_TARGET_AVX512 V code_extra(V x, V bits, V low, uint8_t **words) {
    const V beyond = _mm512_srlv_epi32(x, _mm512_sub_epi32(_mm512_set1_epi32(32), bits));
    x = give_up(x, _mm512_test_epi32_mask(beyond, beyond), words);
    return _mm512_or_si512(_mm512_sllv_epi32(x, bits), low);
}

ZF_INLINE ZF_TARGET_AVX512 V low_bits(V value, V bits) {
    const V one = _mm512_set1_epi32(1);
    return _mm512_and_si512(value, _mm512_sub_epi32(_mm512_sllv_epi32(one, bits), one));
}

/* `wide`: 4-byte items, a register of states holds neighbours; else it holds the even or the odd ones of 32. */
ZF_INLINE ZF_TARGET_AVX512 uint8_t *code(const bx_frame *frame, const uint16_t (*slots)[BX_SCALE],
                                         const uint16_t (*first)[BX_SYMBOLS], const bx_symbols *symbols, size_t blocks,
                                         uint32_t *state, uint8_t *words, const int wide, const unsigned extra_steps) {
    uint16_t frequencies[BX_TABLES * BX_SYMBOLS] = {0}, firsts[BX_TABLES * BX_SYMBOLS] = {0}, attributes[32] = {0};
    for (unsigned k = 0; k < frame->tables * BX_SYMBOLS; k++) {
        frequencies[k] = frame->frequency[k / BX_SYMBOLS][k % BX_SYMBOLS];
        firsts[k] = (uint16_t)(k / BX_SYMBOLS * BX_SCALE + first[k / BX_SYMBOLS][k % BX_SYMBOLS]);
    }
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = (uint16_t)(frame->context[k].table << 8 | frame->context[k].shift);
    const lookup of_frequency = load_lookup(frequencies), of_first = load_lookup(firsts);
    const V of_context = _mm512_loadu_si512(attributes), even = _mm512_set1_epi32(0xFFFF);
    const V c15 = _mm512_set1_epi16(15), c70 = _mm512_set1_epi16(0x70), c40 = _mm512_set1_epi16(0x40);
    const V c63 = _mm512_set1_epi16(63), c5 = _mm512_set1_epi32(BX_STEP_BITS), c16 = _mm512_set1_epi32(BX_EXTRA_BITS);
    V x[4];
    for (unsigned k = 0; k < 4; k++)
        x[k] = _mm512_loadu_si512(state + 16 * k);
    for (size_t n = blocks; n-- > 0;)
#pragma GCC unroll 4
        for (unsigned v = 4; v-- > 0;) {
            const unsigned odd = !wide && (v & 1);
            const size_t place = n * BX_BLOCK + (wide ? 16 * v : 32 * (v / 2));
            V key, low;
            if (wide) {
                key = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(symbols->keys + place)));
                low = _mm512_loadu_si512(symbols->lows + 4 * place);
            } else {
                key = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(symbols->keys + place)));
                low = _mm512_loadu_si512(symbols->lows + 2 * place);
                low = odd ? _mm512_srli_epi32(low, 16) : _mm512_and_si512(low, even);
            }
            const V attribute = _mm512_permutexvar_epi16(_mm512_srli_epi16(key, 4), of_context);
            const V table = _mm512_and_si512(_mm512_srli_epi16(attribute, 4), c70);
            const V at = _mm512_or_si512(_mm512_and_si512(key, c15), table);
            const __mmask32 upper = _mm512_test_epi16_mask(table, c40);
            V frequency = look_up(&of_frequency, at, upper), begin = look_up(&of_first, at, upper);
            V shift = _mm512_and_si512(attribute, c63);
            frequency = odd ? _mm512_srli_epi32(frequency, 16) : _mm512_and_si512(frequency, even);
            begin = odd ? _mm512_srli_epi32(begin, 16) : _mm512_and_si512(begin, even);
            shift = odd ? _mm512_srli_epi32(shift, 16) : _mm512_and_si512(shift, even);
            const V bits = extra_steps ? _mm512_min_epu32(shift, c5) : shift;
            for (unsigned step = extra_steps; step-- > 0;) {
                const unsigned done = BX_STEP_BITS + BX_EXTRA_BITS * step;
                const V before = _mm512_set1_epi32((int)done);
                V more = _mm512_sub_epi32(_mm512_max_epu32(shift, before), before);
                more = _mm512_min_epu32(more, c16);
                x[v] = code_extra(x[v], more, low_bits(_mm512_srli_epi32(low, done), more), &words);
            }
            x[v] = code_symbols(x[v], frequency, begin, bits, extra_steps ? low_bits(low, bits) : low, slots, &words);
        }
    for (unsigned k = 0; k < 4; k++)
        _mm512_storeu_si512(state + 16 * k, x[k]);
    return words;
}

ZF_TARGET_AVX512 uint8_t *bx_code_avx512(const bx_frame *frame, const uint16_t (*slots)[BX_SCALE],
                                         const uint16_t (*first)[BX_SYMBOLS], const bx_symbols *symbols, size_t blocks,
                                         uint32_t *state, uint8_t *end) {
    if (frame->item == 4)
        return code(frame, slots, first, symbols, blocks, state, end, 1, frame->extra_steps);
    if (frame->extra_steps)
        return code(frame, slots, first, symbols, blocks, state, end, 0, 1);
    return code(frame, slots, first, symbols, blocks, state, end, 0, 0);
}

#endif
