/* The bitx decoder: reads and checks the header, then has a kernel decode blocks where none can leave the payload. */
#include <stdlib.h>

#include "bitx.h"
#include "cast.h"

typedef struct {
    bx_kernel *kernel;
    const uint32_t *direct_table;
    const uint8_t *end; /* of the payload */
    uint8_t *staging;   /* STAGING_NBYTES */
    bx_cursor cursor;
} decoder;

enum {
    MARGIN = 64,
    STAGED_NBYTES = 1 << 14, /* of each stream */
    STAGED_BLOCKS = STAGED_NBYTES / (2 * BX_BLOCK),
    STAGING_NBYTES = 3 * (STAGED_NBYTES + MARGIN),
    WORTHWHILE_BLOCKS = 32 /* a kernel that is called for fewer takes longer to begin than to decode */
};

/* Blocks that can be decoded without any stream's being read past `end`, whatever the payload says. */
static size_t safe_blocks(const bx_frame *frame, const decoder *at) {
    size_t words = (size_t)(at->end - at->cursor.words),
           extended_literals = (size_t)(at->end - at->cursor.extended_literals),
           literals = (size_t)(at->end - at->cursor.literals);
    if (words < MARGIN || extended_literals < MARGIN || literals < MARGIN)
        return 0;
    size_t count = (words - MARGIN) / (2 * BX_BLOCK * (1 + (size_t)frame->extra_steps));
    size_t by_fars = (extended_literals - MARGIN) / BX_BLOCK,
           by_literals = (literals - MARGIN) / ((size_t)frame->item * BX_BLOCK);
    count = count < by_fars ? count : by_fars;
    return count < by_literals ? count : by_literals;
}

/* Blocks that can be decoded from copies: what one takes at most of a stream is in bitx.h. */
static size_t staged_blocks(const bx_frame *frame) {
    const size_t by_words = STAGED_BLOCKS / (1 + (size_t)frame->extra_steps);
    const size_t by_literals = STAGED_NBYTES / ((size_t)frame->item * BX_BLOCK);
    return by_words < by_literals ? by_words : by_literals;
}

static size_t stage(const uint8_t *from, const uint8_t *end, uint8_t *copy, size_t most) {
    size_t nbytes = (size_t)(end - from) < most ? (size_t)(end - from) : most;
    memcpy(copy, from, nbytes);
    memset(copy + nbytes, 0, most - nbytes + MARGIN);
    return nbytes;
}

/* At most staged_blocks from copies of what is left of each stream, with zeros behind. */
static const char *decode_staged(const bx_frame *frame, decoder *at, const uint32_t *blocks, size_t count,
                                 const uint16_t *levels, const uint8_t *base, uint8_t *out) {
    uint8_t *words = at->staging, *extended_literals = words + STAGED_NBYTES + MARGIN,
            *literals = extended_literals + STAGED_NBYTES + MARGIN;
    size_t words_nbytes = stage(at->cursor.words, at->end, words,
                                count * 2 * BX_BLOCK * (1 + (size_t)frame->extra_steps));
    size_t extended_nbytes = stage(at->cursor.extended_literals, at->end, extended_literals, count * BX_BLOCK);
    size_t literals_nbytes = stage(at->cursor.literals, at->end, literals, count * BX_BLOCK * frame->item);
    const bx_cursor before = at->cursor;
    at->cursor.words = words;
    at->cursor.extended_literals = extended_literals;
    at->cursor.literals = literals;
    at->kernel(frame, at->direct_table, blocks, count, levels, base, out, &at->cursor);
    size_t words_used = (size_t)(at->cursor.words - words),
           extended_used = (size_t)(at->cursor.extended_literals - extended_literals),
           literals_used = (size_t)(at->cursor.literals - literals);
    if (words_used > words_nbytes || extended_used > extended_nbytes || literals_used > literals_nbytes)
        return "a stream ends too early";
    at->cursor.words = before.words + words_used;
    at->cursor.extended_literals = before.extended_literals + extended_used;
    at->cursor.literals = before.literals + literals_used;
    return NULL;
}

static const char *decode_blocks(const bx_frame *frame, decoder *at, const uint32_t *blocks, size_t count,
                                 const uint16_t *levels, const uint8_t *base, uint8_t *out) {
    const char *wrong;
    size_t done = 0, whole = count;
    size_t rest = frame->items % BX_BLOCK; /* items of the last block, unless it is a whole one */
    if (rest && count && blocks[count - 1] == frame->blocks - 1)
        whole--;
    while (done < whole) {
        size_t now = safe_blocks(frame, at), left = whole - done;
        if (now >= left || now >= WORTHWHILE_BLOCKS) {
            now = now < left ? now : left;
            at->kernel(frame, at->direct_table, blocks + done, now, levels, base, out, &at->cursor);
        } else {
            now = staged_blocks(frame);
            now = now < left ? now : left;
            if ((wrong = decode_staged(frame, at, blocks + done, now, levels, base, out)) != NULL)
                return wrong;
        }
        done += now;
    }
    if (whole == count)
        return NULL;
    uint8_t base_copy[BX_BLOCK * 8] = {0}, out_copy[BX_BLOCK * 8];
    const uint32_t first = 0;
    size_t start = (size_t)blocks[whole] * BX_BLOCK * frame->item;
    memcpy(base_copy, base + start, rest * frame->item);
    wrong = decode_staged(frame, at, &first, 1, levels + blocks[whole] / 2, base_copy, out_copy);
    if (wrong == NULL)
        memcpy(out + start, out_copy, rest * frame->item);
    return wrong;
}

typedef struct {
    unsigned zero_flags;
    unsigned has_scale_offsets;
    uint64_t extended_literals;
    uint64_t literals;
    uint64_t runs_nbytes;
} counts;

static const char *read_header(bx_frame *frame, counts *count, bx_bit_reader *reader) {
    count->zero_flags = (unsigned)bx_take(reader, 2);
    count->has_scale_offsets = (unsigned)bx_take(reader, 1);
    frame->lanes = 1u << 2 * bx_take(reader, 2);
    frame->tables = 1 + (unsigned)bx_take(reader, 3);
    frame->contexts = 1 + (unsigned)bx_take(reader, 4);
    frame->has_direct = (int)bx_take(reader, 1);
    frame->lowest_exponent = (unsigned)bx_take(reader, 11);
    frame->top_exponent = frame->has_direct ? (unsigned)bx_take(reader, 11) : 0;
    count->literals = bx_take_number(reader);
    count->extended_literals = bx_take_number(reader);
    count->runs_nbytes = count->zero_flags == BX_FLAGS_RUNS ? bx_take_number(reader) : 0;
    if (reader->overrun)
        return "the header is cut short";
    if (frame->has_direct && (!frame->mantissa || frame->top_exponent > frame->exponent_mask))
        return "direct contexts do not fit the layout";
    unsigned shift = 0, extra = 0;
    for (unsigned k = 0; k < frame->contexts; k++) {
        bx_context *context = &frame->context[k];
        context->table = frame->tables > 1 ? (uint8_t)bx_take(reader, 3) : 0;
        context->direct = frame->has_direct ? (uint8_t)bx_take(reader, 1) : 0;
        if (!context->direct && bx_take(reader, 1))
            shift = (unsigned)bx_take(reader, 6);
        context->shift = (uint8_t)(context->direct ? frame->mantissa + 1u : shift);
        if (context->table >= frame->tables)
            return "a context names a table that is not there";
        if (context->shift > (context->direct ? 8u * frame->item : 8u * frame->item - 4))
            return "a shift is wider than the item";
        const unsigned beyond = context->shift - bx_step_bits(context->shift);
        extra = extra > beyond ? extra : beyond;
    }
    frame->extra_steps = (extra + BX_EXTRA_BITS - 1) / BX_EXTRA_BITS;
    for (unsigned k = 0; k < frame->tables; k++) {
        const char *wrong = bx_take_table(reader, frame->frequency[k]);
        if (wrong)
            return wrong;
    }
    return reader->overrun ? "the header is cut short" : NULL;
}

/* Copies blocks that equal the base and lists the others. */
typedef struct {
    const bx_frame *frame;
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
    size_t first = from * BX_BLOCK, behind = to * BX_BLOCK < list->frame->items ? to * BX_BLOCK : list->frame->items;
    if (first < behind)
        memcpy(list->out + first * list->frame->item, list->base + first * list->frame->item,
               (behind - first) * list->frame->item);
}

static const char *read_zero_flags(const counts *count, block_list *list, const uint8_t **cursor, const uint8_t *end,
                                   uint8_t *symbols) {
    const size_t blocks = list->frame->blocks;
    const uint8_t *p = *cursor;
    if (count->zero_flags == BX_FLAGS_NONE) {
        add_run(list, 0, blocks, 1);
        return NULL;
    }
    if (count->zero_flags == BX_FLAGS_CODED) {
        const char *wrong = bx_decode_symbols(cursor, end, symbols, (blocks + 3) / 4);
        if (wrong)
            return wrong;
        for (size_t k = 0; k < blocks; k++)
            add_run(list, k, k + 1, !(symbols[k / 4] >> (k & 3) & 1));
        return NULL;
    }
    const size_t nbytes = count->zero_flags == BX_FLAGS_MAP ? (blocks + 7) / 8 : (size_t)count->runs_nbytes;
    if ((size_t)(end - p) < nbytes || (count->zero_flags == BX_FLAGS_RUNS && (uint64_t)nbytes != count->runs_nbytes))
        return "zero flags are cut short";
    *cursor = p + nbytes;
    if (count->zero_flags == BX_FLAGS_MAP) {
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

static bx_kernel *choose_kernel(const bx_frame *frame) {
#if ZF_X86
    const int isa = frame->lanes == BX_LANES ? zf_isa() : ZF_PORTABLE;
    if (isa == ZF_AVX512 && frame->item <= 4)
        return bx_decode_avx512;
    if (isa >= ZF_AVX2)
        return frame->item <= 2 ? bx_decode_narrow_avx2 : bx_decode_wide_avx2;
#endif
    return bx_decode_portable;
}

/* What lies behind the header, with `scratch` for levels, blocks and tables. */
static const char *decode_streams(bx_frame *frame, const counts *count, const uint8_t *p, const uint8_t *end,
                                  const uint8_t *base, uint8_t *out, uint32_t *blocks, uint16_t *levels,
                                  uint8_t *symbols, uint32_t *direct_table, uint8_t *staging) {
    const char *wrong;
    block_list list = {frame, base, out, blocks, 0};
    if ((wrong = read_zero_flags(count, &list, &p, end, symbols)) != NULL)
        return wrong;
    if (count->has_scale_offsets) {
        size_t present = 0;
        for (size_t k = 0; k < list.listed; k++)
            present += k == 0 || blocks[k] / 2 != blocks[k - 1] / 2;
        if ((wrong = bx_decode_symbols(&p, end, symbols, present)) != NULL)
            return wrong;
        for (size_t k = 0, next = 0; k < list.listed; k++) {
            if (k && blocks[k] / 2 == blocks[k - 1] / 2)
                continue;
            int level = (int)frame->lowest_exponent + symbols[next++] - BX_SCALE_OFFSET_BIAS;
            levels[blocks[k] / 2] = (uint16_t)(level < 0 ? 0 : level);
        }
    } else {
        for (size_t k = 0; k < frame->scale_offsets; k++)
            levels[k] = (uint16_t)frame->lowest_exponent;
    }
    decoder at = {.end = end, .direct_table = direct_table, .staging = staging};
    at.cursor.literals = p;
    if (count->literals > (size_t)(end - p) / frame->item)
        return "literals are cut short";
    p += count->literals * frame->item;
    at.cursor.extended_literals = p;
    const uint8_t *const literals_end = p;
    if (count->extended_literals > (size_t)(end - p))
        return "extended literals are cut short";
    p += count->extended_literals;
    const uint8_t *const extended_end = p;
    if ((size_t)(end - p) < 4 * frame->lanes)
        return "states are cut short";
    memcpy(at.cursor.state, p, 4 * frame->lanes);
    for (unsigned k = 0; k < frame->lanes; k++)
        if (at.cursor.state[k] < BX_LOW) /* below it a step could take more words than the margins allow for */
            return "a lane begins with a state that no encoder makes";
    at.cursor.words = p + 4 * frame->lanes;
    bx_build_alias(frame, NULL, NULL);
    at.kernel = choose_kernel(frame);
#if ZF_X86
    if (at.kernel != bx_decode_avx512)
#endif
        bx_build_direct(frame, direct_table);
    if ((wrong = decode_blocks(frame, &at, blocks, list.listed, levels, base, out)) != NULL)
        return wrong;
    if (at.cursor.words != end || at.cursor.extended_literals != extended_end || at.cursor.literals != literals_end)
        return "a stream's length differs from what was decoded";
    for (unsigned k = 0; k < frame->lanes; k++)
        if (at.cursor.state[k] != BX_LOW)
            return "a lane does not end as it began";
    return NULL;
}

static const char *decode_coded(const uint8_t *p, const uint8_t *end, const uint8_t *base, uint8_t *out, size_t nbytes,
                                int layout) {
    bx_frame frame;
    counts count;
    bx_frame_init(&frame, layout, nbytes / zf_layouts[layout].nbytes);
    if (frame.blocks > UINT32_MAX)
        return "too long";
    bx_bit_reader reader = {p, (size_t)(end - p), 0, 0};
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
    const size_t table_nbytes = sizeof(uint32_t) * BX_TABLES * BX_SCALE;
    uint8_t *scratch = malloc(table_nbytes + STAGING_NBYTES + 4 * frame.blocks + 2 * frame.scale_offsets +
                              frame.scale_offsets);
    if (scratch == NULL)
        return zf_no_memory;
    uint32_t *blocks = (uint32_t *)(scratch + table_nbytes + STAGING_NBYTES);
    uint16_t *levels = (uint16_t *)(blocks + frame.blocks);
    wrong = decode_streams(&frame, &count, p, end, base, out, blocks, levels, (uint8_t *)(levels + frame.scale_offsets),
                           (uint32_t *)scratch, scratch + table_nbytes);
    free(scratch);
    return wrong;
}

/* Modes that need no other layout. */
static const char *decode_items(const uint8_t *p, const uint8_t *end, const uint8_t *base, uint8_t *out,
                                size_t nbytes) {
    if (p == end)
        return "the payload is empty";
    const unsigned layout = *p & 15, mode = *p >> 4;
    p++;
    if (layout == ZF_PLAIN || layout >= ZF_LAYOUTS)
        return "unknown layout";
    if (mode == BX_MODE_CODED)
        return decode_coded(p, end, base, out, nbytes, (int)layout);
    if (mode != BX_MODE_EQUAL)
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

static const char *decode_halves(const uint8_t *p, const uint8_t *end, const uint8_t *base, uint8_t *out,
                                 size_t nbytes) {
    const size_t items = nbytes / 4;
    if (nbytes % 4)
        return "halves need whole items";
    uint8_t *upper = malloc(4 * items + 1);
    if (upper == NULL)
        return zf_no_memory;
    uint8_t *decoded = upper + 2 * items;
    for (size_t k = 0; k < items; k++)
        memcpy(upper + 2 * k, base + 4 * k + 2, 2);
    const char *wrong = decode_coded(p, end, upper, decoded, 2 * items, ZF_BF16);
    if (wrong == NULL)
        zf_cast(decoded, items, ZF_BF16, ZF_F32, 1.0f, out);
    free(upper);
    return wrong;
}

static const char *decode_narrow(const uint8_t *p, const uint8_t *end, const uint8_t *base, uint8_t *out, size_t nbytes,
                                 int layout) {
    const int narrow = p < end ? *p & 15 : ZF_PLAIN;
    const unsigned item = zf_layouts[layout].nbytes;
    if (narrow >= ZF_LAYOUTS || !zf_is_narrower(narrow, layout))
        return "a layout that is not narrower";
    if (nbytes % item)
        return "narrow items are not whole";
    const size_t items = nbytes / item, narrow_nbytes = items * zf_layouts[narrow].nbytes;
    uint8_t *narrow_base = malloc(2 * narrow_nbytes + 1);
    if (narrow_base == NULL)
        return zf_no_memory;
    uint8_t *decoded = narrow_base + narrow_nbytes;
    zf_cast(base, items, layout, narrow, 1.0f, narrow_base);
    const char *wrong = decode_items(p, end, narrow_base, decoded, narrow_nbytes);
    if (wrong == NULL)
        zf_cast(decoded, items, narrow, layout, 1.0f, out);
    free(narrow_base);
    return wrong;
}

const char *zf_bitx_decode(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out,
                           size_t nbytes) {
    const uint8_t *end = payload + payload_nbytes;
    const unsigned layout = payload_nbytes ? payload[0] & 15 : ZF_PLAIN, mode = payload_nbytes ? payload[0] >> 4 : 0;
    if (mode == BX_MODE_HALVES && layout == ZF_F32)
        return decode_halves(payload + 1, end, base, out, nbytes);
    if (mode == BX_MODE_NARROW && layout < ZF_LAYOUTS)
        return decode_narrow(payload + 1, end, base, out, nbytes, (int)layout);
    return decode_items(payload, end, base, out, nbytes);
}
