/* The heavy parts of the bitx encoder in plain C.  What a compiler can do with vectors is done for a block at a time. */
#include "bitx_encode.h"

/* Residuals of the items of a block, each as wide as an item. */
#define RESIDUALS(type, signed_type)                                                 \
    for (unsigned k = 0; k < BX_BLOCK; k++) {                                        \
        type f, b, d;                                                                \
        memcpy(&f, raw + k * sizeof f, sizeof f);                                    \
        memcpy(&b, base + k * sizeof b, sizeof b);                                   \
        if (is_float) {                                                              \
            const type turn = (type)(b & (type)((type)1 << (8 * sizeof(type) - 1))); \
            const type turned = (type)(f ^ turn);                                    \
            const type fold = (type)((signed_type)turned >> (8 * sizeof(type) - 1)); \
            d = (type)((turned ^ (type)(fold >> 1)) - (b ^ turn));                   \
        } else {                                                                     \
            d = (type)(f - b);                                                       \
        }                                                                            \
        memcpy(residuals + k * sizeof d, &d, sizeof d);                              \
    }

ZF_INLINE void find_residuals(const uint8_t *raw, const uint8_t *base, uint8_t *residuals, const unsigned item,
                              const int is_float) {
    if (item == 1)
        RESIDUALS(uint8_t, int8_t)
    else if (item == 2)
        RESIDUALS(uint16_t, int16_t)
    else if (item == 4)
        RESIDUALS(uint32_t, int32_t)
    else
        RESIDUALS(uint64_t, int64_t)
}

/* How far the exponents of a block's base are above `lowest`, at most `most`. */
ZF_INLINE void find_heights(const bx_frame *frame, const uint8_t *base, unsigned lowest, unsigned most,
                            uint8_t *heights, const unsigned item, const int is_float) {
    const unsigned mask = frame->exponent_mask, mantissa = frame->mantissa;
    for (unsigned k = 0; k < BX_BLOCK; k++) {
        const unsigned exponent = is_float ? (unsigned)(bx_load(base + k * item, item) >> mantissa) & mask
                                           : BX_INTEGER_EXPONENT;
        const unsigned above = exponent > lowest ? exponent - lowest : 0;
        heights[k] = (uint8_t)(above < most ? above : most);
    }
}

ZF_INLINE int64_t load_signed(const uint8_t *p, const unsigned item) {
    const unsigned above = 64 - 8 * item;
    return (int64_t)(bx_load(p, item) << above) >> above;
}

ZF_INLINE uint64_t measure_block(const bx_frame *frame, const uint8_t *raw, const uint8_t *base, unsigned reference,
                                 const unsigned item, const int is_float) {
    uint8_t residuals[BX_BLOCK * 8], heights[BX_BLOCK];
    uint64_t sum = 0;
    find_residuals(raw, base, residuals, item, is_float);
    find_heights(frame, base, reference, BX_MEASURE_EXPONENTS, heights, item, is_float);
    for (unsigned k = 0; k < BX_BLOCK; k++) {
        const int64_t d = load_signed(residuals + k * item, item);
        const uint64_t cap = item <= 2 ? BX_MEASURE_CAP : 0xFFFFFFFF, all = d < 0 ? 0 - (uint64_t)d : (uint64_t)d;
        const uint64_t size = item == 8 ? all >> 16 : all;
        sum += (size < cap ? size : cap) << heights[k];
    }
    return sum;
}

ZF_INLINE void measure(const bx_frame *frame, const bx_input *input, unsigned reference, uint64_t *magnitudes,
                       const unsigned item, const int is_float) {
    for (size_t n = 0; n < input->listed; n++) {
        const size_t from = (size_t)input->blocks[n] * BX_BLOCK, left = frame->items - from;
        const uint8_t *raw = input->raw + from * item, *base = input->base + from * item;
        uint8_t raw_copy[BX_BLOCK * 8] = {0}, base_copy[BX_BLOCK * 8] = {0};
        if (left < BX_BLOCK) { /* items of zero against zero add nothing */
            raw = memcpy(raw_copy, raw, left * item);
            base = memcpy(base_copy, base, left * item);
        }
        magnitudes[from / BX_SCALE_OFFSET] += measure_block(frame, raw, base, reference, item, is_float);
    }
}

void bx_measure_portable(const bx_frame *frame, const bx_input *input, unsigned reference, uint64_t *magnitudes) {
    switch (2 * frame->item + (frame->exponent_mask != 0)) {
    case 2: measure(frame, input, reference, magnitudes, 1, 0); break;
    case 3: measure(frame, input, reference, magnitudes, 1, 1); break;
    case 4: measure(frame, input, reference, magnitudes, 2, 0); break;
    case 5: measure(frame, input, reference, magnitudes, 2, 1); break;
    case 8: measure(frame, input, reference, magnitudes, 4, 0); break;
    case 9: measure(frame, input, reference, magnitudes, 4, 1); break;
    case 16: measure(frame, input, reference, magnitudes, 8, 0); break;
    default: measure(frame, input, reference, magnitudes, 8, 1);
    }
}

ZF_INLINE void symbolise(const bx_frame *frame, const bx_input *input, size_t from, size_t to, const uint16_t *levels,
                         bx_symbols *symbols, const unsigned item, const int is_float) {
    const unsigned width = 8 * item, low_nbytes = bx_low_nbytes(item), last = frame->contexts - 1;
    uint8_t *extended_literals = symbols->extended_literals + symbols->extended_count,
            *literals = symbols->literals + symbols->literals_count * item;
    uint8_t shifts[BX_CONTEXTS] = {0}, directs[BX_CONTEXTS] = {0};
    for (unsigned k = 0; k < frame->contexts; k++) {
        shifts[k] = frame->context[k].shift;
        directs[k] = frame->context[k].direct;
    }
    for (size_t n = from; n < to; n++) {
        const size_t start = (size_t)input->blocks[n] * BX_BLOCK;
        const uint8_t *raw = input->raw + start * item, *base = input->base + start * item;
        uint8_t *keys = symbols->keys + n * BX_BLOCK, *lows = symbols->lows + n * BX_BLOCK * low_nbytes;
        uint8_t residuals[BX_BLOCK * 8], numbers[BX_BLOCK];
        find_residuals(raw, base, residuals, item, is_float);
        find_heights(frame, base, levels[input->blocks[n] / 2], last, numbers, item, is_float);
        for (unsigned k = 0; k < BX_BLOCK; k++) {
            const unsigned number = numbers[k], shift = shifts[number];
            const int64_t d = load_signed(residuals + k * item, item), quotient = d >> shift;
            unsigned symbol = (unsigned)((uint64_t)quotient + BX_ZERO);
            uint64_t low = (uint64_t)(d - (int64_t)((uint64_t)quotient << shift));
            if (directs[number]) {
                const uint64_t f = bx_load(raw + k * item, item), turned = (f << 1 | f >> (width - 1)) & bx_mask(width);
                const unsigned below = frame->top_exponent - (unsigned)(turned >> (frame->mantissa + 1));
                low = turned & bx_mask(shift);
                symbol = below < BX_EXTENDED ? below : BX_EXTENDED;
                if (symbol == BX_EXTENDED) {
                    low = 0;
                    bx_store(literals, f, item);
                    literals += item;
                }
            } else if (ZF_UNLIKELY((uint64_t)quotient + BX_ZERO - 1 >= BX_EXTENDED - 1)) {
                if (quotient >= -128 && quotient < 128) {
                    symbol = BX_EXTENDED;
                    *extended_literals++ = (uint8_t)quotient;
                } else {
                    symbol = BX_LITERAL;
                    low = 0;
                    bx_store(literals, (uint64_t)d, item);
                    literals += item;
                }
            }
            keys[k] = (uint8_t)(number << 4 | symbol);
            bx_store(lows + k * low_nbytes, low, low_nbytes);
        }
    }
    symbols->extended_count = (size_t)(extended_literals - symbols->extended_literals);
    symbols->literals_count = (size_t)(literals - symbols->literals) / item;
}

void bx_symbolise_portable(const bx_frame *frame, const bx_input *input, size_t from, size_t to, const uint16_t *levels,
                           bx_symbols *symbols) {
    switch (2 * frame->item + (frame->exponent_mask != 0)) {
    case 2: symbolise(frame, input, from, to, levels, symbols, 1, 0); break;
    case 3: symbolise(frame, input, from, to, levels, symbols, 1, 1); break;
    case 4: symbolise(frame, input, from, to, levels, symbols, 2, 0); break;
    case 5: symbolise(frame, input, from, to, levels, symbols, 2, 1); break;
    case 8: symbolise(frame, input, from, to, levels, symbols, 4, 0); break;
    case 9: symbolise(frame, input, from, to, levels, symbols, 4, 1); break;
    case 16: symbolise(frame, input, from, to, levels, symbols, 8, 0); break;
    default: symbolise(frame, input, from, to, levels, symbols, 8, 1);
    }
}

/* What the coder needs of a context and symbol. */
typedef struct {
    uint64_t reciprocal; /* 2^43 / frequency, rounded up */
    const uint16_t *slots;
    uint32_t limit; /* states beyond give up a word first */
    uint16_t frequency;
    uint8_t bits; /* low bits of the step itself */
} ready_step;

ZF_INLINE uint8_t *code(const bx_frame *frame, const ready_step *steps, const bx_symbols *symbols, size_t blocks,
                        uint32_t *state, uint8_t *words, const unsigned item, const int has_extra,
                        const int one_lane_each) {
    const unsigned lane_mask = one_lane_each ? BX_GROUP - 1 : frame->lanes - 1, low_nbytes = bx_low_nbytes(item);
    const unsigned stride = item > 2 ? 1 : 2;
    uint8_t extra_bits[BX_EXTRA_STEPS][BX_CONTEXTS] = {{0}};
    for (unsigned k = 0; k < BX_EXTRA_STEPS * frame->contexts; k++)
        extra_bits[k / frame->contexts][k % frame->contexts] = (uint8_t)bx_extra_bits(
            frame->context[k % frame->contexts].shift, k / frame->contexts);
    for (size_t n = blocks; n-- > 0;)
        for (unsigned group = BX_BLOCK; group > 0;) {
            group -= BX_GROUP;
            const size_t first = n * BX_BLOCK + bx_place(group, item);
            const uint8_t *keys = symbols->keys + first, *lows = symbols->lows + first * low_nbytes;
            uint32_t *states = state + (one_lane_each ? group : 0);
            for (unsigned step = has_extra ? frame->extra_steps : 0; step-- > 0;)
                for (unsigned k = BX_GROUP; k-- > 0;) {
                    const unsigned bits = extra_bits[step][keys[k * stride] >> 4];
                    uint32_t *x = &states[k & lane_mask];
                    const uint32_t many = (uint32_t)((uint64_t)*x >> (32 - bits)) != 0;
                    zf_put16(words - 2, (uint16_t)*x);
                    words -= 2 * many;
                    uint64_t low = bx_load(lows + k * stride * low_nbytes, low_nbytes);
                    low = low >> (BX_STEP_BITS + BX_EXTRA_BITS * step) & ((1u << bits) - 1);
                    *x = (*x >> 16 * many) << bits | (uint32_t)low;
                }
#pragma GCC unroll 4
            for (unsigned k = BX_GROUP; k-- > 0;) {
                const ready_step *by = &steps[keys[k * stride]];
                uint32_t low = (uint32_t)bx_load(lows + k * stride * low_nbytes, low_nbytes);
                if (has_extra)
                    low &= (1u << by->bits) - 1;
                uint32_t x = states[k & lane_mask];
                const uint32_t many = x > by->limit;
                zf_put16(words - 2, (uint16_t)x);
                words -= 2 * many;
                x >>= 16 * many;
                const uint32_t quotient = (uint32_t)(x * by->reciprocal >> 43), rest = x - quotient * by->frequency;
                states[k & lane_mask] = (quotient << BX_PRECISION | by->slots[rest]) << by->bits | low;
            }
        }
    return words;
}

#define CODE(name, item, has_extra, one_lane_each)                                                              \
    static ZF_NOINLINE uint8_t *name(const bx_frame *frame, const ready_step *steps, const bx_symbols *symbols, \
                                     size_t blocks, uint32_t *state, uint8_t *words) {                          \
        return code(frame, steps, symbols, blocks, state, words, item, has_extra, one_lane_each);               \
    }

CODE(code_1, 1, 0, 1)
CODE(code_2, 2, 0, 1)
CODE(code_extra_2, 2, 1, 1)
CODE(code_extra_4, 4, 1, 1)
CODE(code_extra_8, 8, 1, 1)
CODE(code_few_lanes, frame->item, 1, 0)

uint8_t *bx_code_portable(const bx_frame *frame, const uint16_t (*slots)[BX_SCALE], const uint16_t (*first)[BX_SYMBOLS],
                          const bx_symbols *symbols, size_t blocks, uint32_t *state, uint8_t *end) {
    ready_step steps[BX_CONTEXTS * BX_SYMBOLS];
    memset(steps, 0, sizeof steps);
    for (unsigned k = 0; k < frame->contexts * BX_SYMBOLS; k++) {
        const bx_context *context = &frame->context[k / BX_SYMBOLS];
        const uint32_t frequency = frame->frequency[context->table][k % BX_SYMBOLS];
        if (!frequency)
            continue;
        steps[k].reciprocal = (((uint64_t)1 << 43) + frequency - 1) / frequency;
        steps[k].slots = slots[context->table] + first[context->table][k % BX_SYMBOLS];
        steps[k].limit = (frequency << (32 - BX_PRECISION - bx_step_bits(context->shift))) - 1;
        steps[k].frequency = (uint16_t)frequency;
        steps[k].bits = (uint8_t)bx_step_bits(context->shift);
    }
    if (frame->lanes != BX_LANES)
        return code_few_lanes(frame, steps, symbols, blocks, state, end);
    switch (frame->item) {
    case 1: return code_1(frame, steps, symbols, blocks, state, end);
    case 2: return (frame->extra_steps ? code_extra_2 : code_2)(frame, steps, symbols, blocks, state, end);
    case 4: return code_extra_4(frame, steps, symbols, blocks, state, end);
    default: return code_extra_8(frame, steps, symbols, blocks, state, end);
    }
}
