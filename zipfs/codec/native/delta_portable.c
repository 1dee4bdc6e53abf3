/* The delta decoder in plain C: any item, any number of lanes. */
#include "delta.h"

typedef struct {
    const uint32_t *row; /* of the direct table */
    uint32_t shift;
    uint32_t direct;
} ready_context;

/* Contexts of a block's items. */
ZF_INLINE void find_contexts(const zd_frame *frame, unsigned level, const uint8_t *base, uint8_t *number,
                             const unsigned item, const int is_float) {
    const unsigned last = frame->contexts - 1, mask = frame->exponent_mask, mantissa = frame->mantissa;
    for (unsigned at = 0; at < ZD_BLOCK; at++) {
        unsigned exponent = ZD_INTEGER_EXPONENT;
        if (is_float)
            exponent = (unsigned)(zd_load(base + at * item, item) >> mantissa) & mask;
        unsigned above = exponent > level ? exponent - level : 0;
        number[at] = (uint8_t)(above < last ? above : last);
    }
}

/* Adds residuals to the base; apart for the commonest width so that a compiler can use vectors of it. */
ZF_INLINE void restore_all(const uint8_t *base, const uint8_t *residuals, uint8_t *out, const unsigned item,
                           const int is_float) {
    if (item == 2 && is_float) {
        for (unsigned at = 0; at < ZD_BLOCK; at++) {
            uint16_t b = zf_get16(base + 2 * at), turn = b & 0x8000;
            uint16_t ordered = (uint16_t)((b ^ turn) + zf_get16(residuals + 2 * at));
            uint16_t fold = (uint16_t)((int16_t)ordered >> 15);
            zf_put16(out + 2 * at, (uint16_t)(ordered ^ (fold >> 1) ^ turn));
        }
        return;
    }
    for (unsigned at = 0; at < ZD_BLOCK; at++) {
        uint64_t d = zd_load(residuals + at * item, item), b = zd_load(base + at * item, item);
        zd_store(out + at * item, zd_restore(d, b, item, is_float), item);
    }
}

/* Without a branch, which would be guessed wrong every other time. */
ZF_INLINE uint32_t refill(uint32_t x, const uint8_t **words) {
    const uint32_t few = x < ZD_LOW, mask = 0 - few, refilled = x << 16 | zf_get16(*words);
    *words += 2 * few;
    return (refilled & mask) | (x & ~mask);
}

/* One block of 64 items; whether items are floats and how wide they are is known when this is compiled. */
ZF_INLINE void decode_block(const zd_frame *frame, const ready_context *contexts, unsigned level, const uint8_t *base,
                            uint8_t *out, zd_cursor *cursor, const unsigned item, const int is_float,
                            const int has_extra, const int one_lane_each) {
    const unsigned lane_mask = one_lane_each ? ZD_LANES - 1 : frame->lanes - 1;
    const uint8_t *words = cursor->words;
    uint8_t number[ZD_BLOCK], symbol[ZD_BLOCK], direct[ZD_BLOCK], unusual[ZD_BLOCK], residuals[ZD_BLOCK * 8];
    find_contexts(frame, level, base, number, item, is_float);
    for (unsigned group = 0; group < ZD_BLOCK; group += ZD_GROUP) {
        uint64_t low[ZD_GROUP];
#pragma GCC unroll 16
        for (unsigned k = 0; k < ZD_GROUP; k++) {
            const unsigned at = zd_place(group + k, item);
            uint32_t *state = &cursor->state[(group + k) & lane_mask];
            const ready_context *context = &contexts[number[at]];
            const unsigned bits = has_extra ? zd_step_bits(context->shift) : context->shift;
            const uint32_t x = *state, turned = x >> bits;
            const uint32_t entry = context->row[turned & (ZD_SCALE - 1)];
            const uint32_t y = (entry >> 20) * (turned >> ZD_PRECISION) + (entry >> 4 & (ZD_SCALE - 1));
            *state = refill(y, &words);
            const uint32_t own = entry & 15, rest = x - (turned << bits);
            symbol[at] = (uint8_t)own;
            if (has_extra)
                direct[at] = (uint8_t)context->direct;
            if (has_extra)
                low[k] = rest;
            else
                zd_store(residuals + at * item, ((own - ZD_ZERO) << bits) + rest, item);
        }
        if (!has_extra)
            continue;
        for (unsigned step = 0; step < frame->extra_steps; step++)
            for (unsigned k = 0; k < ZD_GROUP; k++) {
                const unsigned at = zd_place(group + k, item);
                const unsigned bits = zd_extra_bits(contexts[number[at]].shift, step);
                uint32_t *state = &cursor->state[(group + k) & lane_mask];
                low[k] |= (uint64_t)(*state & ((1u << bits) - 1)) << (ZD_STEP_BITS + ZD_EXTRA_BITS * step);
                *state = refill(*state >> bits, &words);
            }
        for (unsigned k = 0; k < ZD_GROUP; k++) {
            const unsigned at = zd_place(group + k, item);
            const uint64_t quotient = (uint64_t)symbol[at] - ZD_ZERO;
            zd_store(residuals + at * item, (quotient << contexts[number[at]].shift) + low[k], item);
        }
    }
    cursor->words = words;
    restore_all(base, residuals, out, item, is_float);
    uint64_t special = 0;
    for (unsigned at = 0; at < ZD_BLOCK; at++) /* 1 for ZD_ESCAPE and ZD_FAR */
        unusual[at] = (uint8_t)(((symbol[at] + 1) & 15) < 2) | (has_extra ? direct[at] : 0);
    for (unsigned at = 0; at < ZD_BLOCK; at += 8) /* gathers the lowest bit of each byte */
        special |= (zf_get64(unusual + at) * 0x0102040810204080u >> 56) << at;
    while (special) {
        const unsigned at = (unsigned)__builtin_ctzll(special);
        special &= special - 1;
        const uint64_t b = zd_load(base + at * item, item);
        const ready_context *context = &contexts[number[at]];
        uint64_t f, low = zd_load(residuals + at * item, item) & zd_mask(context->shift);
        if (context->direct && symbol[at] != ZD_FAR) {
            const unsigned width = 8 * item;
            uint64_t turned = (uint64_t)(frame->top_exponent - symbol[at]) << (frame->mantissa + 1) | low;
            turned &= zd_mask(width);
            f = turned >> 1 | (turned & 1) << (width - 1);
        } else if (context->direct || symbol[at] == ZD_ESCAPE) {
            f = zd_load(cursor->escapes, item);
            cursor->escapes += item;
            if (!context->direct)
                f = zd_restore(f, b, item, is_float);
        } else {
            uint64_t d = ((uint64_t)(int64_t)(int8_t)*cursor->fars++ << context->shift) | low;
            f = zd_restore(d, b, item, is_float);
        }
        zd_store(out + at * item, f, item);
    }
}

#define BLOCKS_LOOP(item, is_float, has_extra, one_lane_each)                                                    \
    do {                                                                                                          \
        for (size_t k = 0; k < count; k++) {                                                                      \
            size_t start = (size_t)blocks[k] * ZD_BLOCK * (item);                                                 \
            decode_block(frame, contexts, levels[blocks[k] / 2], base + start, out + start, &place, item,        \
                         is_float, has_extra, one_lane_each);                                                     \
        }                                                                                                         \
    } while (0)

ZF_NOINLINE void zd_decode_portable(const zd_frame *frame, const uint32_t *direct_table, const uint32_t *blocks,
                                    size_t count, const uint16_t *levels, const uint8_t *base, uint8_t *out,
                                    zd_cursor *cursor) {
    zd_cursor place = *cursor;
    ready_context contexts[ZD_CONTEXTS];
    for (unsigned k = 0; k < frame->contexts; k++)
        contexts[k] = (ready_context){direct_table + (size_t)frame->context[k].table * ZD_SCALE,
                                      frame->context[k].shift, frame->context[k].direct};
    const int is_float = frame->exponent_mask != 0;
    const int has_extra = frame->extra_steps || frame->has_direct, all_lanes = frame->lanes == ZD_LANES;
    if (frame->item == 2 && is_float && all_lanes && !has_extra)
        BLOCKS_LOOP(2, 1, 0, 1);
    else if (frame->item == 2 && is_float && !all_lanes)
        BLOCKS_LOOP(2, 1, 1, 0);
    else if (frame->item == 4 && is_float && all_lanes)
        BLOCKS_LOOP(4, 1, 1, 1);
    else if (frame->item == 1 && is_float && all_lanes && !has_extra)
        BLOCKS_LOOP(1, 1, 0, 1);
    else if (!all_lanes)
        BLOCKS_LOOP(frame->item, is_float, 1, 0);
    else /* an item size that is a constant is worth a factor of two and more */
        switch (2 * frame->item + (unsigned)is_float) {
        case 2: BLOCKS_LOOP(1, 0, 1, 1); break;
        case 3: BLOCKS_LOOP(1, 1, 1, 1); break;
        case 4: BLOCKS_LOOP(2, 0, 1, 1); break;
        case 5: BLOCKS_LOOP(2, 1, 1, 1); break;
        case 8: BLOCKS_LOOP(4, 0, 1, 1); break;
        case 16: BLOCKS_LOOP(8, 0, 1, 1); break;
        default: BLOCKS_LOOP(8, 1, 1, 1);
        }
    *cursor = place;
}
