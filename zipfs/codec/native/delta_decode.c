/* The delta decoder: reads and checks the header, then has a kernel decode blocks where none can leave the payload. */
#include <stdlib.h>

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

typedef struct {
    zd_kernel *kernel;
    const uint32_t *direct_table;
    const uint8_t *end; /* of the payload */
    zd_cursor cursor;
} decoder;

enum { MARGIN = 64, MOST_WORDS = 2 * ZD_BLOCK * 5, MOST_ESCAPES = 8 * ZD_BLOCK };

/* Blocks that can be decoded without any stream's being read past `end`, whatever the payload says. */
static size_t safe_blocks(const zd_frame *frame, const decoder *at) {
    size_t words = (size_t)(at->end - at->cursor.words), fars = (size_t)(at->end - at->cursor.fars),
           escapes = (size_t)(at->end - at->cursor.escapes);
    if (words < MARGIN || fars < MARGIN || escapes < MARGIN)
        return 0;
    size_t count = (words - MARGIN) / (2 * ZD_BLOCK * (1 + (size_t)frame->extra_steps));
    size_t by_fars = (fars - MARGIN) / ZD_BLOCK, by_escapes = (escapes - MARGIN) / ((size_t)frame->item * ZD_BLOCK);
    count = count < by_fars ? count : by_fars;
    return count < by_escapes ? count : by_escapes;
}

static size_t stage(const uint8_t *from, const uint8_t *end, uint8_t *copy, size_t most) {
    size_t nbytes = (size_t)(end - from) < most ? (size_t)(end - from) : most;
    memset(copy, 0, most + MARGIN);
    memcpy(copy, from, nbytes);
    return nbytes;
}

/* One block from copies of what is left of each stream, with zeros behind. */
static const char *decode_staged(const zd_frame *frame, decoder *at, const uint32_t *block, const uint16_t *levels,
                                 const uint8_t *base, uint8_t *out) {
    uint8_t words[MOST_WORDS + MARGIN], fars[ZD_BLOCK + MARGIN], escapes[MOST_ESCAPES + MARGIN];
    size_t words_nbytes = stage(at->cursor.words, at->end, words, MOST_WORDS);
    size_t fars_nbytes = stage(at->cursor.fars, at->end, fars, ZD_BLOCK);
    size_t escapes_nbytes = stage(at->cursor.escapes, at->end, escapes, MOST_ESCAPES);
    const zd_cursor before = at->cursor;
    at->cursor.words = words;
    at->cursor.fars = fars;
    at->cursor.escapes = escapes;
    at->kernel(frame, at->direct_table, block, 1, levels, base, out, &at->cursor);
    size_t words_used = (size_t)(at->cursor.words - words), fars_used = (size_t)(at->cursor.fars - fars),
           escapes_used = (size_t)(at->cursor.escapes - escapes);
    if (words_used > words_nbytes || fars_used > fars_nbytes || escapes_used > escapes_nbytes)
        return "a stream ends too early";
    at->cursor.words = before.words + words_used;
    at->cursor.fars = before.fars + fars_used;
    at->cursor.escapes = before.escapes + escapes_used;
    return NULL;
}

static const char *decode_blocks(const zd_frame *frame, decoder *at, const uint32_t *blocks, size_t count,
                                 const uint16_t *levels, const uint8_t *base, uint8_t *out) {
    const char *wrong;
    size_t done = 0, whole = count;
    size_t rest = frame->items % ZD_BLOCK; /* items of the last block, unless it is a whole one */
    if (rest && count && blocks[count - 1] == frame->blocks - 1)
        whole--;
    while (done < whole) {
        size_t safe = safe_blocks(frame, at);
        if (safe) {
            safe = safe < whole - done ? safe : whole - done;
            at->kernel(frame, at->direct_table, blocks + done, safe, levels, base, out, &at->cursor);
            done += safe;
        } else {
            if ((wrong = decode_staged(frame, at, blocks + done, levels, base, out)) != NULL)
                return wrong;
            done++;
        }
    }
    if (whole == count)
        return NULL;
    uint8_t base_copy[ZD_BLOCK * 8] = {0}, out_copy[ZD_BLOCK * 8];
    const uint32_t first = 0;
    size_t start = (size_t)blocks[whole] * ZD_BLOCK * frame->item;
    memcpy(base_copy, base + start, rest * frame->item);
    wrong = decode_staged(frame, at, &first, levels + blocks[whole] / 2, base_copy, out_copy);
    if (wrong == NULL)
        memcpy(out + start, out_copy, rest * frame->item);
    return wrong;
}

typedef struct {
    unsigned zero_flags;
    unsigned has_octaves;
    uint64_t fars;
    uint64_t escapes;
    uint64_t runs_nbytes;
} counts;

static const char *read_header(zd_frame *frame, counts *count, zd_bit_reader *reader) {
    count->zero_flags = (unsigned)zd_take(reader, 2);
    count->has_octaves = (unsigned)zd_take(reader, 1);
    frame->lanes = 1u << 2 * zd_take(reader, 2);
    frame->tables = 1 + (unsigned)zd_take(reader, 3);
    frame->contexts = 1 + (unsigned)zd_take(reader, 4);
    frame->has_direct = (int)zd_take(reader, 1);
    frame->lowest_exponent = (unsigned)zd_take(reader, 11);
    frame->top_exponent = frame->has_direct ? (unsigned)zd_take(reader, 11) : 0;
    count->escapes = zd_take_number(reader);
    count->fars = zd_take_number(reader);
    count->runs_nbytes = count->zero_flags == ZD_FLAGS_RUNS ? zd_take_number(reader) : 0;
    if (reader->overrun)
        return "the header is cut short";
    if (frame->has_direct && (!frame->mantissa || frame->top_exponent > frame->exponent_mask))
        return "direct contexts do not fit the layout";
    unsigned shift = 0, extra = 0;
    for (unsigned k = 0; k < frame->contexts; k++) {
        zd_context *context = &frame->context[k];
        context->table = frame->tables > 1 ? (uint8_t)zd_take(reader, 3) : 0;
        context->direct = frame->has_direct ? (uint8_t)zd_take(reader, 1) : 0;
        if (!context->direct && zd_take(reader, 1))
            shift = (unsigned)zd_take(reader, 6);
        context->shift = (uint8_t)(context->direct ? frame->mantissa + 1u : shift);
        if (context->table >= frame->tables)
            return "a context names a table that is not there";
        if (context->shift > (context->direct ? 8u * frame->item : 8u * frame->item - 4))
            return "a shift is wider than the item";
        const unsigned beyond = context->shift - zd_step_bits(context->shift);
        extra = extra > beyond ? extra : beyond;
    }
    frame->extra_steps = (extra + ZD_EXTRA_BITS - 1) / ZD_EXTRA_BITS;
    for (unsigned k = 0; k < frame->tables; k++) {
        const char *wrong = zd_take_table(reader, frame->frequency[k]);
        if (wrong)
            return wrong;
    }
    return reader->overrun ? "the header is cut short" : NULL;
}

/* Copies blocks that equal the base and lists the others. */
typedef struct {
    const zd_frame *frame;
    const uint8_t *base;
    uint8_t *out;
    uint32_t *blocks;
    size_t listed;
} block_list;

static void add_run(block_list *list, size_t from, size_t to, int coded) {
    if (coded) {
        for (size_t k = from; k < to; k++)
            list->blocks[list->listed++] = (uint32_t)k;
        return;
    }
    size_t first = from * ZD_BLOCK, behind = to * ZD_BLOCK < list->frame->items ? to * ZD_BLOCK : list->frame->items;
    if (first < behind)
        memcpy(list->out + first * list->frame->item, list->base + first * list->frame->item,
               (behind - first) * list->frame->item);
}

static const char *read_zero_flags(const counts *count, block_list *list, const uint8_t **cursor, const uint8_t *end,
                                   uint8_t *symbols) {
    const size_t blocks = list->frame->blocks;
    const uint8_t *p = *cursor;
    if (count->zero_flags == ZD_FLAGS_NONE) {
        add_run(list, 0, blocks, 1);
        return NULL;
    }
    if (count->zero_flags == ZD_FLAGS_CODED) {
        const char *wrong = zd_decode_symbols(cursor, end, symbols, (blocks + 3) / 4);
        if (wrong)
            return wrong;
        for (size_t k = 0; k < blocks; k++)
            add_run(list, k, k + 1, !(symbols[k / 4] >> (k & 3) & 1));
        return NULL;
    }
    const size_t nbytes = count->zero_flags == ZD_FLAGS_MAP ? (blocks + 7) / 8 : (size_t)count->runs_nbytes;
    if ((size_t)(end - p) < nbytes || (count->zero_flags == ZD_FLAGS_RUNS && (uint64_t)nbytes != count->runs_nbytes))
        return "zero flags are cut short";
    *cursor = p + nbytes;
    if (count->zero_flags == ZD_FLAGS_MAP) {
        for (size_t k = 0; k < blocks; k++)
            add_run(list, k, k + 1, !(p[k / 8] >> (k & 7) & 1));
        return NULL;
    }
    size_t at = 0;
    int coded = 1;
    for (const uint8_t *stop = p + nbytes; p < stop; coded = !coded) {
        uint64_t run = 0;
        unsigned bits = 0;
        for (;; bits += 7) {
            if (p == stop || bits > 28)
                return "a run of zero flags is cut short";
            run |= (uint64_t)(*p & 127) << bits;
            if (!(*p++ & 128))
                break;
        }
        if (run > blocks - at)
            return "zero flags are more than the blocks";
        add_run(list, at, at + (size_t)run, coded);
        at += (size_t)run;
    }
    return at == blocks ? NULL : "zero flags are fewer than the blocks";
}

static zd_kernel *choose_kernel(const zd_frame *frame) {
#if ZF_X86
    const int isa = frame->lanes == ZD_LANES ? zf_isa() : ZF_PORTABLE;
    if (isa == ZF_AVX512 && frame->item <= 4)
        return zd_decode_avx512;
    if (isa >= ZF_AVX2 && (frame->item == 4 || (frame->item == 2 && !frame->extra_steps && !frame->has_direct)))
        return zd_decode_avx2;
#endif
    return zd_decode_portable;
}

/* What lies behind the header, with `scratch` for levels, blocks and tables. */
static const char *decode_streams(zd_frame *frame, const counts *count, const uint8_t *p, const uint8_t *end,
                                  const uint8_t *base, uint8_t *out, uint32_t *blocks, uint16_t *levels,
                                  uint8_t *symbols, uint32_t *direct_table) {
    const char *wrong;
    block_list list = {frame, base, out, blocks, 0};
    if ((wrong = read_zero_flags(count, &list, &p, end, symbols)) != NULL)
        return wrong;
    if (count->has_octaves) {
        size_t present = 0;
        for (size_t k = 0; k < list.listed; k++)
            present += k == 0 || blocks[k] / 2 != blocks[k - 1] / 2;
        if ((wrong = zd_decode_symbols(&p, end, symbols, present)) != NULL)
            return wrong;
        for (size_t k = 0, next = 0; k < list.listed; k++) {
            if (k && blocks[k] / 2 == blocks[k - 1] / 2)
                continue;
            int level = (int)frame->lowest_exponent + symbols[next++] - ZD_OCTAVE_BIAS;
            levels[blocks[k] / 2] = (uint16_t)(level < 0 ? 0 : level);
        }
    } else {
        for (size_t k = 0; k < frame->octaves; k++)
            levels[k] = (uint16_t)frame->lowest_exponent;
    }
    decoder at = {.end = end};
    at.cursor.escapes = p;
    if (count->escapes > (size_t)(end - p) / frame->item)
        return "escapes are cut short";
    p += count->escapes * frame->item;
    at.cursor.fars = p;
    const uint8_t *const escapes_end = p;
    if (count->fars > (size_t)(end - p))
        return "far residuals are cut short";
    p += count->fars;
    const uint8_t *const fars_end = p;
    if ((size_t)(end - p) < 4 * frame->lanes)
        return "states are cut short";
    memcpy(at.cursor.state, p, 4 * frame->lanes);
    for (unsigned k = 0; k < frame->lanes; k++)
        if (at.cursor.state[k] < ZD_LOW) /* below it a step could take more words than the margins allow for */
            return "a lane begins with a state that no encoder makes";
    at.cursor.words = p + 4 * frame->lanes;
    zd_build_alias(frame, NULL, NULL);
    at.kernel = choose_kernel(frame);
    at.direct_table = direct_table;
#if ZF_X86
    if (at.kernel != zd_decode_avx512)
#endif
        zd_build_direct(frame, direct_table);
    if ((wrong = decode_blocks(frame, &at, blocks, list.listed, levels, base, out)) != NULL)
        return wrong;
    if (at.cursor.words != end || at.cursor.fars != fars_end || at.cursor.escapes != escapes_end)
        return "a stream's length differs from what was decoded";
    for (unsigned k = 0; k < frame->lanes; k++)
        if (at.cursor.state[k] != ZD_LOW)
            return "a lane does not end as it began";
    return NULL;
}

static const char *decode_coded(const uint8_t *p, const uint8_t *end, const uint8_t *base, uint8_t *out, size_t nbytes,
                                int layout) {
    zd_frame frame;
    counts count;
    zd_frame_init(&frame, layout, nbytes / zf_layouts[layout].nbytes);
    if (frame.blocks > UINT32_MAX)
        return "too long";
    zd_bit_reader reader = {p, (size_t)(end - p), 0, 0};
    const char *wrong = read_header(&frame, &count, &reader);
    if (wrong)
        return wrong;
    p += (reader.position + 7) / 8;
    const size_t tail = nbytes - frame.items * frame.item;
    if ((size_t)(end - p) < tail)
        return "the tail is cut short";
    if (tail)
        memcpy(out + nbytes - tail, p, tail);
    p += tail;
    const size_t table_nbytes = sizeof(uint32_t) * ZD_TABLES * ZD_SCALE;
    uint8_t *scratch = malloc(table_nbytes + 4 * frame.blocks + 2 * frame.octaves + frame.octaves);
    if (scratch == NULL)
        return zf_no_memory;
    uint32_t *blocks = (uint32_t *)(scratch + table_nbytes);
    uint16_t *levels = (uint16_t *)(blocks + frame.blocks);
    wrong = decode_streams(&frame, &count, p, end, base, out, blocks, levels, (uint8_t *)(levels + frame.octaves),
                           (uint32_t *)scratch);
    free(scratch);
    return wrong;
}

static const char *decode_halves(const uint8_t *p, const uint8_t *end, const uint8_t *base, uint8_t *out,
                                 size_t nbytes) {
    const size_t items = nbytes / 4;
    if (nbytes % 4)
        return "halves need whole items";
    uint8_t *upper = calloc(4 * items + 1, 1);
    if (upper == NULL)
        return zf_no_memory;
    uint8_t *decoded = upper + 2 * items;
    for (size_t k = 0; k < items; k++)
        memcpy(upper + 2 * k, base + 4 * k + 2, 2);
    const char *wrong = decode_coded(p, end, upper, decoded, 2 * items, ZF_BF16);
    if (wrong == NULL)
        for (size_t k = 0; k < items; k++)
            zf_put32(out + 4 * k, (uint32_t)zf_get16(decoded + 2 * k) << 16);
    free(upper);
    return wrong;
}

const char *zf_delta_decode(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out,
                            size_t nbytes) {
    if (!payload_nbytes)
        return "the payload is empty";
    const unsigned layout = payload[0] & 15, mode = payload[0] >> 4;
    if (layout == ZF_PLAIN || layout >= ZF_LAYOUTS)
        return "unknown layout";
    const uint8_t *p = payload + 1, *end = payload + payload_nbytes;
    if (mode == ZD_MODE_CODED)
        return decode_coded(p, end, base, out, nbytes, (int)layout);
    if (mode == ZD_MODE_HALVES && layout == ZF_F32)
        return decode_halves(p, end, base, out, nbytes);
    if (mode != ZD_MODE_EQUAL)
        return "unknown mode";
    const size_t tail = nbytes % zf_layouts[layout].nbytes;
    if ((size_t)(end - p) != tail)
        return "the payload's length differs from the tail's";
    if (nbytes - tail)
        memcpy(out, base, nbytes - tail);
    if (tail)
        memcpy(out + nbytes - tail, p, tail);
    return NULL;
}
