/* The heavy parts of the delta encoder with AVX-512, for 2-byte floats whose steps take no extra words. */
#include "delta_encode.h"

#if ZF_X86

#define V __m512i

typedef struct {
    V exponent_mask, sign;
    __m128i mantissa;
} fields;

ZF_INLINE ZF_TARGET_AVX512 fields fields_of(const zd_frame *frame) {
    return (fields){_mm512_set1_epi16((short)frame->exponent_mask), _mm512_set1_epi16((short)0x8000),
                    _mm_cvtsi32_si128(frame->mantissa)};
}

ZF_INLINE ZF_TARGET_AVX512 V residual(V f, V b, const fields *of) {
    const V turn = _mm512_and_si512(b, of->sign), turned = _mm512_xor_si512(f, turn);
    const V fold = _mm512_srli_epi16(_mm512_srai_epi16(turned, 15), 1);
    return _mm512_sub_epi16(_mm512_xor_si512(turned, fold), _mm512_xor_si512(b, turn));
}

ZF_INLINE ZF_TARGET_AVX512 V exponent(V b, const fields *of) {
    return _mm512_and_si512(_mm512_srl_epi16(b, of->mantissa), of->exponent_mask);
}

ZF_TARGET_AVX512 void zd_measure_avx512(const zd_frame *frame, const zd_input *input, unsigned reference,
                                        uint64_t *magnitudes) {
    const fields of = fields_of(frame);
    const V lowest = _mm512_set1_epi16((short)reference), most = _mm512_set1_epi16(ZD_MEASURE_EXPONENTS);
    const V cap = _mm512_set1_epi16(ZD_MEASURE_CAP), even = _mm512_set1_epi32(0xFFFF);
    for (size_t n = 0; n < input->listed; n++) {
        const uint32_t block = input->blocks[n];
        if (((size_t)block + 1) * ZD_BLOCK > frame->items) {
            zd_measure_portable(frame, &(zd_input){input->raw, input->base, input->blocks + n, 1}, reference, magnitudes);
            continue;
        }
        V sum = _mm512_setzero_si512();
        for (unsigned h = 0; h < 2; h++) {
            const size_t at = (size_t)block * ZD_BLOCK * 2 + 64 * h;
            const V f = _mm512_loadu_si512(input->raw + at), b = _mm512_loadu_si512(input->base + at);
            const V size = _mm512_min_epu16(_mm512_abs_epi16(residual(f, b, &of)), cap);
            const V up = _mm512_min_epu16(_mm512_subs_epu16(exponent(b, &of), lowest), most);
            sum = _mm512_add_epi32(sum, _mm512_sllv_epi32(_mm512_and_si512(size, even), _mm512_and_si512(up, even)));
            sum = _mm512_add_epi32(sum, _mm512_sllv_epi32(_mm512_srli_epi32(size, 16), _mm512_srli_epi32(up, 16)));
        }
        magnitudes[block / 2] += (uint32_t)_mm512_reduce_add_epi32(sum);
    }
}

ZF_TARGET_AVX512 void zd_symbolise_avx512(const zd_frame *frame, const zd_input *input, size_t from, size_t to,
                                          const uint16_t *levels, zd_symbols *symbols) {
    uint16_t shifts[32] = {0};
    for (unsigned k = 0; k < frame->contexts; k++)
        shifts[k] = frame->context[k].shift;
    const fields of = fields_of(frame);
    const V of_context = _mm512_loadu_si512(shifts), last = _mm512_set1_epi16((short)(frame->contexts - 1));
    const V one = _mm512_set1_epi16(1), c7 = _mm512_set1_epi16(ZD_ZERO - 1), c8 = _mm512_set1_epi16(ZD_ZERO);
    const V c14 = _mm512_set1_epi16(ZD_FAR - 1), c15 = _mm512_set1_epi16(ZD_FAR), c128 = _mm512_set1_epi16(128);
    const V c256 = _mm512_set1_epi16(256);
    uint8_t *fars = symbols->fars + symbols->fars_count, *escapes = symbols->escapes + 2 * symbols->escapes_count;
    for (size_t n = from; n < to; n++) {
        const V level = _mm512_set1_epi16((short)levels[input->blocks[n] / 2]);
        for (unsigned h = 0; h < 2; h++) {
            const size_t at = (size_t)input->blocks[n] * ZD_BLOCK * 2 + 64 * h, place = n * ZD_BLOCK + 32 * h;
            const V f = _mm512_loadu_si512(input->raw + at), b = _mm512_loadu_si512(input->base + at);
            const V number = _mm512_min_epu16(_mm512_subs_epu16(exponent(b, &of), level), last);
            const V shift = _mm512_permutexvar_epi16(number, of_context), d = residual(f, b, &of);
            const V quotient = _mm512_srav_epi16(d, shift);
            const __mmask32 out = _mm512_cmpge_epu16_mask(_mm512_add_epi16(quotient, c7), c14);
            const __mmask32 escaped = _mm512_mask_cmpge_epu16_mask(out, _mm512_add_epi16(quotient, c128), c256);
            const __mmask32 far = out & ~escaped;
            V low = _mm512_maskz_mov_epi16(~escaped, _mm512_and_si512(d, _mm512_sub_epi16(_mm512_sllv_epi16(one, shift), one)));
            V symbol = _mm512_maskz_mov_epi16(~escaped, _mm512_mask_mov_epi16(_mm512_add_epi16(quotient, c8), far, c15));
            if (far) {
                _mm256_storeu_si256((void *)fars, _mm512_cvtepi16_epi8(_mm512_maskz_compress_epi16(far, quotient)));
                fars += _mm_popcnt_u32(far);
            }
            if (ZF_UNLIKELY(escaped)) {
                _mm512_storeu_si512(escapes, _mm512_maskz_compress_epi16(escaped, d));
                escapes += 2 * (unsigned)_mm_popcnt_u32(escaped);
            }
            _mm256_storeu_si256((void *)(symbols->keys + place),
                                _mm512_cvtepi16_epi8(_mm512_or_si512(_mm512_slli_epi16(number, 4), symbol)));
            _mm512_storeu_si512(symbols->lows + 2 * place, low);
        }
    }
    symbols->fars_count = (size_t)(fars - symbols->fars);
    symbols->escapes_count = (size_t)(escapes - symbols->escapes) / 2;
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

ZF_TARGET_AVX512 uint8_t *zd_code_avx512(const zd_frame *frame, const uint16_t (*slots)[ZD_SCALE],
                                         const uint16_t (*first)[ZD_SYMBOLS], const zd_symbols *symbols, size_t blocks,
                                         uint32_t *state, uint8_t *end) {
    uint16_t frequencies[ZD_TABLES * ZD_SYMBOLS] = {0}, firsts[ZD_TABLES * ZD_SYMBOLS] = {0}, attributes[32] = {0};
    for (unsigned k = 0; k < frame->tables * ZD_SYMBOLS; k++) {
        frequencies[k] = frame->frequency[k / ZD_SYMBOLS][k % ZD_SYMBOLS];
        firsts[k] = (uint16_t)(k / ZD_SYMBOLS * ZD_SCALE + first[k / ZD_SYMBOLS][k % ZD_SYMBOLS]);
    }
    for (unsigned k = 0; k < frame->contexts; k++)
        attributes[k] = (uint16_t)(frame->context[k].table << 4 | frame->context[k].shift);
    const lookup of_frequency = load_lookup(frequencies), of_first = load_lookup(firsts);
    const V of_context = _mm512_loadu_si512(attributes), c15 = _mm512_set1_epi16(15), c70 = _mm512_set1_epi16(0x70);
    const V c40 = _mm512_set1_epi16(0x40), even = _mm512_set1_epi32(0xFFFF);
    const V limit_bits = _mm512_set1_epi32(32 - ZD_PRECISION), one = _mm512_set1_epi32(1);
    V x[4];
    for (unsigned k = 0; k < 4; k++)
        x[k] = _mm512_loadu_si512(state + 16 * k);
    uint8_t *words = end;
    for (size_t n = blocks; n-- > 0;)
#pragma GCC unroll 4
        for (unsigned v = 4; v-- > 0;) {
            const unsigned odd = v & 1;
            const size_t place = n * ZD_BLOCK + 32 * (v / 2);
            const V key = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(symbols->keys + place)));
            const V attribute = _mm512_permutexvar_epi16(_mm512_srli_epi16(key, 4), of_context);
            const V table = _mm512_and_si512(attribute, c70), at = _mm512_or_si512(_mm512_and_si512(key, c15), table);
            const __mmask32 upper = _mm512_test_epi16_mask(table, c40);
            V frequency = look_up(&of_frequency, at, upper), begin = look_up(&of_first, at, upper);
            V shift = _mm512_and_si512(attribute, c15), low = _mm512_loadu_si512(symbols->lows + 2 * place);
            frequency = odd ? _mm512_srli_epi32(frequency, 16) : _mm512_and_si512(frequency, even);
            begin = odd ? _mm512_srli_epi32(begin, 16) : _mm512_and_si512(begin, even);
            shift = odd ? _mm512_srli_epi32(shift, 16) : _mm512_and_si512(shift, even);
            low = odd ? _mm512_srli_epi32(low, 16) : _mm512_and_si512(low, even);
            const V limit = _mm512_sllv_epi32(frequency, _mm512_sub_epi32(limit_bits, shift));
            const __mmask16 many = _mm512_cmpge_epu32_mask(x[v], limit);
            const unsigned count = (unsigned)_mm_popcnt_u32(many);
            words -= 2 * count;
            _mm256_mask_storeu_epi16(words, (__mmask16)((1u << count) - 1),
                                     _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(many, x[v])));
            const V state_now = _mm512_mask_srli_epi32(x[v], many, x[v], 16);
            /* The quotient is below 2^21, so that single precision misses it by one at most. */
            V quotient = _mm512_cvttps_epi32(
                _mm512_div_ps(_mm512_cvtepu32_ps(state_now), _mm512_cvtepi32_ps(frequency)));
            V rest = _mm512_sub_epi32(state_now, _mm512_mullo_epi32(quotient, frequency));
            const __mmask16 over = _mm512_movepi32_mask(rest);
            quotient = _mm512_mask_sub_epi32(quotient, over, quotient, one);
            rest = _mm512_mask_add_epi32(rest, over, rest, frequency);
            const __mmask16 under = _mm512_cmpge_epu32_mask(rest, frequency);
            quotient = _mm512_mask_add_epi32(quotient, under, quotient, one);
            rest = _mm512_mask_sub_epi32(rest, under, rest, frequency);
            V slot = _mm512_i32gather_epi32(_mm512_add_epi32(begin, rest), (const void *)slots, 2);
            slot = _mm512_or_si512(_mm512_slli_epi32(quotient, ZD_PRECISION), _mm512_and_si512(slot, even));
            x[v] = _mm512_or_si512(_mm512_sllv_epi32(slot, shift), low);
        }
    for (unsigned k = 0; k < 4; k++)
        _mm512_storeu_si512(state + 16 * k, x[k]);
    return words;
}

#endif
