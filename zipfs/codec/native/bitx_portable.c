/* The bitx decoder in plain C: any item, any number of lanes. */
#include "bitx.h"

/* What a step needs of a context, in one word: bits 0-4 the low bits of the step itself, 5 direct, 8-13 all low bits,
   16-31 where its table begins in the direct one. */
typedef uint32_t ready_context;

typedef struct {
    ready_context by_number[BX_CONTEXTS];
    uint8_t extra_bits[BX_EXTRA_STEPS][BX_CONTEXTS];
} ready_contexts;

ZF_INLINE unsigned row_of(ready_context context) { return context >> 16; }
ZF_INLINE unsigned shift_of(ready_context context) { return context >> 8 & 63; }
ZF_INLINE unsigned is_direct(ready_context context) { return context >> 5 & 1; }

/* Contexts of a block's items. */
ZF_INLINE void find_contexts(const bx_frame *frame, unsigned level, const uint8_t *base, uint8_t *number,
                             const unsigned item, const int is_float) {
    const unsigned last = frame->contexts - 1, mask = frame->exponent_mask, mantissa = frame->mantissa;
    for (unsigned at = 0; at < BX_BLOCK; at++) {
        unsigned exponent = BX_INTEGER_EXPONENT;
        if (is_float)
            exponent = (unsigned)(bx_load(base + at * item, item) >> mantissa) & mask;
        unsigned above = exponent > level ? exponent - level : 0;
        number[at] = (uint8_t)(above < last ? above : last);
    }
}

/* Adds residuals to the base; apart for the commonest width so that a compiler can use vectors of it. */
ZF_INLINE void restore_all(const uint8_t *base, const uint8_t *residuals, uint8_t *out, const unsigned item,
                           const int is_float) {
    if (item == 2 && is_float) {
        for (unsigned at = 0; at < BX_BLOCK; at++) {
            uint16_t b = zf_get16(base + 2 * at), turn = b & 0x8000;
            uint16_t ordered = (uint16_t)((b ^ turn) + zf_get16(residuals + 2 * at));
            uint16_t fold = (uint16_t)((int16_t)ordered >> 15);
            zf_put16(out + 2 * at, (uint16_t)(ordered ^ (fold >> 1) ^ turn));
        }
        return;
    }
    for (unsigned at = 0; at < BX_BLOCK; at++) {
        uint64_t d = bx_load(residuals + at * item, item), b = bx_load(base + at * item, item);
        bx_store(out + at * item, bx_restore(d, b, item, is_float), item);
    }
}

/* Items of direct contexts: top exponent - symbol above the low bits, turned back, where residuals have symbol - BX_ZERO
   above them. */
ZF_INLINE void place_direct(const bx_frame *frame, const uint8_t *is_direct, const int8_t *quotient,
                            const uint8_t *residuals, uint8_t *out, const unsigned item) {
    const unsigned width = 8 * item, shift = frame->mantissa + 1u;
    for (unsigned at = 0; at < BX_BLOCK; at++) {
        const uint64_t above = (uint64_t)(int64_t)((int)frame->top_exponent - BX_ZERO - 2 * quotient[at]) << shift;
        const uint64_t turned = (above + bx_load(residuals + at * item, item)) & bx_mask(width);
        const uint64_t own = turned >> 1 | turned << (width - 1), keep = (uint64_t)is_direct[at] - 1;
        bx_store(out + at * item, (own & ~keep) | (bx_load(out + at * item, item) & keep), item);
    }
}

/* Without a branch, which would be guessed wrong every other time. */
ZF_INLINE uint32_t refill(uint32_t x, const uint8_t **words) {
    const uint32_t few = x < BX_LOW, refilled = x << 16 | zf_get16(*words);
    *words += 2 * few;
    return x ^ ((x ^ refilled) & (0 - few));
}

/* One block of 64 items; whether items are floats and how wide they are is known when this is compiled. */
ZF_INLINE void decode_block(const bx_frame *frame, const ready_contexts *contexts, const uint32_t *direct_table,
                            unsigned level, const uint8_t *base, uint8_t *out, bx_cursor *cursor, const unsigned item,
                            const int is_float, const int has_extra, const int one_lane_each) {
    const unsigned lane_mask = one_lane_each ? BX_GROUP - 1 : frame->lanes - 1;
    const uint8_t *words = cursor->words;
    int8_t quotient[BX_BLOCK];
    uint8_t number[BX_BLOCK], unusual[BX_BLOCK], residuals[BX_BLOCK * 8];
    find_contexts(frame, level, base, number, item, is_float);
    for (unsigned group = 0; group < BX_BLOCK; group += BX_GROUP) {
        uint32_t *states = cursor->state + (one_lane_each ? group : 0);
        const unsigned first = bx_place(group, item), stride = item > 2 ? 1 : 2;
#pragma GCC unroll 4
        for (unsigned k = 0; k < BX_GROUP; k++) {
            const unsigned at = first + k * stride;
            const ready_context context = contexts->by_number[number[at]];
            const unsigned bits = context & 31;
            const uint32_t x = states[k & lane_mask], turned = x >> bits;
            const uint32_t entry = direct_table[row_of(context) + (turned & (BX_SCALE - 1))];
            const uint32_t y = bx_entry_frequency(entry) * (turned >> BX_PRECISION) + bx_entry_offset(entry);
            states[k & lane_mask] = refill(y, &words);
            const int32_t own = bx_entry_quotient(entry);
            quotient[at] = (int8_t)own;
            if (has_extra) {
                const uint64_t above = (uint64_t)(int64_t)own << shift_of(context);
                bx_store(residuals + at * item, above + (x - (turned << bits)), item);
            } else {
                bx_store(residuals + at * item, x + (((uint32_t)own - turned) << bits), item);
            }
        }
        for (unsigned step = 0; has_extra && step < frame->extra_steps; step++)
#pragma GCC unroll 4
            for (unsigned k = 0; k < BX_GROUP; k++) {
                const unsigned at = first + k * stride, bits = contexts->extra_bits[step][number[at]];
                const uint32_t x = states[k & lane_mask], rest = x >> bits;
                const uint64_t low = (uint64_t)(x - (rest << bits)) << (BX_STEP_BITS + BX_EXTRA_BITS * step);
                states[k & lane_mask] = refill(rest, &words);
                bx_store(residuals + at * item, bx_load(residuals + at * item, item) + low, item);
            }
    }
    cursor->words = words;
    restore_all(base, residuals, out, item, is_float);
    uint64_t special = 0;
    if (has_extra && frame->has_direct) {
        uint8_t direct[BX_BLOCK];
        for (unsigned at = 0; at < BX_BLOCK; at++)
            direct[at] = (uint8_t)is_direct(contexts->by_number[number[at]]);
        for (unsigned at = 0; at < BX_BLOCK; at++)
            unusual[at] = quotient[at] == BX_EXTENDED - BX_ZERO ||
                          (!direct[at] & (quotient[at] == BX_LITERAL - BX_ZERO));
        place_direct(frame, direct, quotient, residuals, out, item);
    } else {
        for (unsigned at = 0; at < BX_BLOCK; at++)
            unusual[at] = quotient[at] == BX_LITERAL - BX_ZERO || quotient[at] == BX_EXTENDED - BX_ZERO;
    }
    for (unsigned at = 0; at < BX_BLOCK; at += 8) /* gathers the lowest bit of each byte */
        special |= (zf_get64(unusual + at) * 0x0102040810204080u >> 56) << at;
    while (special) {
        const unsigned at = (unsigned)__builtin_ctzll(special);
        special &= special - 1;
        const uint64_t b = bx_load(base + at * item, item);
        const ready_context context = contexts->by_number[number[at]];
        uint64_t f;
        if (is_direct(context) || quotient[at] == BX_LITERAL - BX_ZERO) {
            f = bx_load(cursor->literals, item);
            cursor->literals += item;
            if (!is_direct(context))
                f = bx_restore(f, b, item, is_float);
        } else {
            const uint64_t low = bx_load(residuals + at * item, item) & bx_mask(shift_of(context));
            uint64_t d = ((uint64_t)(int64_t)(int8_t)*cursor->extended_literals++ << shift_of(context)) | low;
            f = bx_restore(d, b, item, is_float);
        }
        bx_store(out + at * item, f, item);
    }
}

/* Each kind on its own: a compiler that sees all of them in one function runs out of registers. */
#define KERNEL(name, item, is_float, has_extra, one_lane_each)                                                        \
    static ZF_NOINLINE void name(const bx_frame *frame, const ready_contexts *contexts, const uint32_t *direct_table, \
                                 const uint32_t *blocks, size_t count, const uint16_t *levels, const uint8_t *base,   \
                                 uint8_t *out, bx_cursor *cursor) {                                                   \
        for (size_t k = 0; k < count; k++) {                                                                          \
            const size_t start = (size_t)blocks[k] * BX_BLOCK * (item);                                               \
            decode_block(frame, contexts, direct_table, levels[blocks[k] / 2], base + start, out + start, cursor,     \
                         item, is_float, has_extra, one_lane_each);                                                   \
        }                                                                                                             \
    }

KERNEL(floats_1, 1, 1, 0, 1)
KERNEL(floats_2, 2, 1, 0, 1)
KERNEL(extra_floats_1, 1, 1, 1, 1)
KERNEL(extra_floats_2, 2, 1, 1, 1)
KERNEL(extra_floats_4, 4, 1, 1, 1)
KERNEL(extra_floats_8, 8, 1, 1, 1)
KERNEL(integers_1, 1, 0, 1, 1)
KERNEL(integers_2, 2, 0, 1, 1)
KERNEL(integers_4, 4, 0, 1, 1)
KERNEL(integers_8, 8, 0, 1, 1)
KERNEL(few_lanes, frame->item, frame->exponent_mask != 0, 1, 0)

typedef void kernel(const bx_frame *frame, const ready_contexts *contexts, const uint32_t *direct_table,
                    const uint32_t *blocks, size_t count, const uint16_t *levels, const uint8_t *base, uint8_t *out,
                    bx_cursor *cursor);

static kernel *choose_kernel(const bx_frame *frame) {
    const int is_float = frame->exponent_mask != 0, has_extra = frame->extra_steps || frame->has_direct;
    if (frame->lanes != BX_LANES)
        return few_lanes;
    switch (frame->item) {
    case 1: return !is_float ? integers_1 : has_extra ? extra_floats_1 : floats_1;
    case 2: return !is_float ? integers_2 : has_extra ? extra_floats_2 : floats_2;
    case 4: return !is_float ? integers_4 : extra_floats_4;
    default: return !is_float ? integers_8 : extra_floats_8;
    }
}

void bx_decode_portable(const bx_frame *frame, const uint32_t *direct_table, const uint32_t *blocks, size_t count,
                        const uint16_t *levels, const uint8_t *base, uint8_t *out, bx_cursor *cursor) {
    ready_contexts contexts;
    for (unsigned k = 0; k < frame->contexts; k++) {
        const bx_context *from = &frame->context[k];
        contexts.by_number[k] = bx_step_bits(from->shift) | (uint32_t)from->direct << 5 | (uint32_t)from->shift << 8 |
                                (uint32_t)from->table * BX_SCALE << 16;
        for (unsigned step = 0; step < BX_EXTRA_STEPS; step++)
            contexts.extra_bits[step][k] = (uint8_t)bx_extra_bits(from->shift, step);
    }
    bx_cursor place = *cursor;
    choose_kernel(frame)(frame, &contexts, direct_table, blocks, count, levels, base, out, &place);
    *cursor = place;
}
