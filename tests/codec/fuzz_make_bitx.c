/* Bitx payloads that are right, with any lanes, contexts, shifts, tables and flags that the stream allows, whatever
   the encoder would choose; and headers of which one field is wrong. */
#include <stdlib.h>

#include "bitx_encode.h"
#include "cast.h"
#include "dispatch.h"
#include "fuzz_input.h"

enum { ROOM = 1 << 23 };

typedef struct {
    bx_frame frame;
    unsigned zero_flags, has_scale_offsets;
    uint64_t literals, extended_literals, runs_nbytes;
} header;

static void put_header(bx_bit_writer *writer, const header *of) {
    const bx_frame *frame = &of->frame;
    unsigned shift = 0;
    bx_put(writer, of->zero_flags, 2);
    bx_put(writer, of->has_scale_offsets, 1);
    bx_put(writer, (unsigned)__builtin_ctz(frame->lanes) / 2, 2);
    bx_put(writer, frame->tables - 1, 3);
    bx_put(writer, frame->contexts - 1, 4);
    bx_put(writer, (unsigned)frame->has_direct, 1);
    bx_put(writer, frame->lowest_exponent, 11);
    if (frame->has_direct)
        bx_put(writer, frame->top_exponent, 11);
    bx_put_number(writer, of->literals);
    bx_put_number(writer, of->extended_literals);
    if (of->zero_flags == BX_FLAGS_RUNS)
        bx_put_number(writer, of->runs_nbytes);
    for (unsigned k = 0; k < frame->contexts; k++) {
        const bx_context *context = &frame->context[k];
        if (frame->tables > 1)
            bx_put(writer, context->table, 3);
        if (frame->has_direct)
            bx_put(writer, context->direct, 1);
        if (context->direct)
            continue;
        bx_put(writer, context->shift != shift, 1);
        if (context->shift != shift)
            bx_put(writer, context->shift, 6);
        shift = context->shift;
    }
    for (unsigned k = 0; k < frame->tables; k++)
        bx_put_table(writer, frame->frequency[k]);
}

/* Nothing is checked but the tables, whose errors would leave the reader at no certain place. */
static int get_header(bx_bit_reader *reader, header *of) {
    bx_frame *frame = &of->frame;
    unsigned shift = 0;
    of->zero_flags = (unsigned)bx_take(reader, 2);
    of->has_scale_offsets = (unsigned)bx_take(reader, 1);
    frame->lanes = 1u << 2 * bx_take(reader, 2);
    frame->tables = 1 + (unsigned)bx_take(reader, 3);
    frame->contexts = 1 + (unsigned)bx_take(reader, 4);
    frame->has_direct = (int)bx_take(reader, 1);
    frame->lowest_exponent = (unsigned)bx_take(reader, 11);
    frame->top_exponent = frame->has_direct ? (unsigned)bx_take(reader, 11) : 0;
    of->literals = bx_take_number(reader);
    of->extended_literals = bx_take_number(reader);
    of->runs_nbytes = of->zero_flags == BX_FLAGS_RUNS ? bx_take_number(reader) : 0;
    for (unsigned k = 0; k < frame->contexts; k++) {
        bx_context *context = &frame->context[k];
        context->table = frame->tables > 1 ? (uint8_t)bx_take(reader, 3) : 0;
        context->direct = frame->has_direct ? (uint8_t)bx_take(reader, 1) : 0;
        if (!context->direct && bx_take(reader, 1))
            shift = (unsigned)bx_take(reader, 6);
        context->shift = (uint8_t)shift;
    }
    for (unsigned k = 0; k < frame->tables; k++)
        if (bx_take_table(reader, frame->frequency[k]) != NULL)
            return 0;
    return !reader->overrun;
}

static uint64_t another_count(fuzz_random *random, uint64_t count) {
    switch (fuzz_below(random, 5)) {
    case 0: return count + 1;
    case 1: return count - (count > 0);
    case 2: return count + fuzz_below(random, 300);
    case 3: return fuzz_below(random, count + 1);
    default: return fuzz_bits(random) >> (1 + fuzz_below(random, 63));
    }
}

static void change_table(fuzz_random *random, uint16_t *frequency) {
    unsigned from = (unsigned)fuzz_below(random, BX_SYMBOLS), to = (unsigned)fuzz_below(random, BX_SYMBOLS);
    const uint16_t moved = (uint16_t)fuzz_below(random, (size_t)frequency[from] + 1);
    frequency[from] = (uint16_t)(frequency[from] - moved);
    frequency[to] = (uint16_t)(frequency[to] + moved);
}

size_t fuzz_change_header(fuzz_random *random, uint8_t *data, size_t size, size_t most) {
    enum { HEADER = 1024 };
    header of;
    memset(&of, 0, sizeof of);
    bx_frame *frame = &of.frame;
    const size_t first = FUZZ_HEAD + (size > FUZZ_HEAD && data[FUZZ_HEAD] >> 4 == BX_MODE_NARROW), front = first + 1;
    if (size <= front || data[first] >> 4 == BX_MODE_EQUAL)
        return 0;
    bx_bit_reader reader = {data + front, size - front, 0, 0};
    if (!get_header(&reader, &of))
        return 0;
    bx_context *context = &frame->context[fuzz_below(random, frame->contexts)];
    switch (fuzz_below(random, 14)) {
    case 0: of.zero_flags = (unsigned)fuzz_below(random, 4); break;
    case 1: of.has_scale_offsets = !of.has_scale_offsets; break;
    case 2: frame->lanes = 1u << 2 * fuzz_below(random, 4); break;
    case 3: frame->tables = 1 + (unsigned)fuzz_below(random, BX_TABLES); break;
    case 4: frame->contexts = 1 + (unsigned)fuzz_below(random, BX_CONTEXTS); break;
    case 5: frame->has_direct = !frame->has_direct; break;
    case 6: frame->lowest_exponent = (unsigned)fuzz_below(random, 2048); break;
    case 7: frame->top_exponent = (unsigned)fuzz_below(random, 2048); break;
    case 8: of.literals = another_count(random, of.literals); break;
    case 9: of.extended_literals = another_count(random, of.extended_literals); break;
    case 10: of.runs_nbytes = another_count(random, of.runs_nbytes); break;
    case 11: context->shift = (uint8_t)fuzz_below(random, 64); break;
    case 12: context->direct = frame->has_direct ? !context->direct : 0; break;
    default: change_table(random, frame->frequency[fuzz_below(random, frame->tables)]); break;
    }
    if (fuzz_below(random, 2))
        context->table = (uint8_t)fuzz_below(random, frame->tables);
    for (unsigned k = 0; k < frame->tables; k++) { /* one that was added, or left with one symbol */
        unsigned sum = 0;
        for (unsigned j = 0; j < BX_SYMBOLS; j++)
            sum += frame->frequency[k][j];
        if (sum == 0)
            memcpy(frame->frequency[k], frame->frequency[0], sizeof frame->frequency[0]);
    }
    uint8_t bytes[HEADER];
    bx_bit_writer writer = {bytes, HEADER, 0, 0};
    put_header(&writer, &of);
    const size_t behind = front + (reader.position + 7) / 8, nbytes = (writer.position + 7) / 8;
    if (writer.overrun || front + nbytes + (size - behind) > most)
        return 0;
    memmove(data + front + nbytes, data + behind, size - behind);
    memcpy(data + front, bytes, nbytes);
    return front + nbytes + (size - behind);
}

static size_t items_of_input(fuzz_random *random, size_t item) {
    size_t items = fuzz_below(random, 700);
    if (!fuzz_below(random, 4))
        items = fuzz_below(random, 70);
    if (!fuzz_below(random, 6))
        items = 1000 + fuzz_below(random, 4000);
    if (!fuzz_below(random, 100))
        items = 32768 + fuzz_below(random, 20000);
    const size_t most = (FUZZ_MOST_NBYTES - 8) / item;
    return items < most ? items : most;
}

static void make_raw(fuzz_random *random, uint8_t *raw, const uint8_t *base, size_t nbytes, unsigned item, int halves) {
    const unsigned size = (unsigned)fuzz_below(random, 8 * item - 2), rare = (unsigned)fuzz_below(random, 5);
    for (size_t at = 0; at < nbytes; at += item) {
        const size_t n = nbytes - at < item ? nbytes - at : item;
        uint64_t b = 0, change = fuzz_bits(random) & ((UINT64_C(1) << size) - 1);
        memcpy(&b, base + at, n);
        if ((rare == 1 && fuzz_below(random, 16)) || (rare == 2 && at / (128 * item) % 3))
            change = 0;
        uint64_t f = fuzz_bits(random) & 1 ? b + change : b - change;
        if (rare == 3 && !fuzz_below(random, 20))
            f = fuzz_bits(random);
        if (rare == 4) /* as is_extended as a vector of extended literals and literals is dense */
            f = fuzz_below(random, 3) ? b + (change << fuzz_below(random, 8)) : fuzz_bits(random);
        if (halves)
            f &= 0xFFFF0000;
        memcpy(raw + at, &f, n);
    }
}

static void choose_model(fuzz_random *random, header *of) {
    bx_frame *frame = &of->frame;
    const unsigned middle = (frame->exponent_mask + 1u) / 2, widest = 8u * frame->item - 4;
    unsigned shift = 0, extra = 0;
    frame->lanes = 1u << 2 * fuzz_below(random, 4);
    if (!fuzz_below(random, 3))
        frame->lanes = BX_LANES;
    frame->tables = 1 + (unsigned)fuzz_below(random, BX_TABLES);
    frame->contexts = 1 + (unsigned)fuzz_below(random, BX_CONTEXTS);
    frame->has_direct = middle && !fuzz_below(random, 3);
    frame->lowest_exponent = (unsigned)fuzz_below(random, middle + 1);
    if (fuzz_below(random, 4))
        frame->lowest_exponent = middle > 10 ? middle - (unsigned)fuzz_below(random, 10) : 0;
    frame->top_exponent = frame->has_direct ? (unsigned)fuzz_below(random, frame->exponent_mask + 1u) : 0;
    if (frame->has_direct && fuzz_below(random, 4))
        frame->top_exponent = middle;
    const unsigned usual = fuzz_below(random, 2) ? widest + 1 : widest < 5 ? widest + 1 : 6;
    for (unsigned k = 0; k < frame->contexts; k++) {
        bx_context *context = &frame->context[k];
        context->table = (uint8_t)fuzz_below(random, frame->tables);
        context->direct = (uint8_t)(frame->has_direct && !fuzz_below(random, 3));
        if (!context->direct && fuzz_below(random, 2))
            shift = (unsigned)fuzz_below(random, usual);
        context->shift = (uint8_t)(context->direct ? frame->mantissa + 1u : shift);
        const unsigned beyond = context->shift - bx_step_bits(context->shift);
        extra = extra > beyond ? extra : beyond;
    }
    frame->extra_steps = (extra + BX_EXTRA_BITS - 1) / BX_EXTRA_BITS;
}

/* Lists blocks, makes the others equal the base, and writes the flags that say so. */
static uint8_t *put_flags(fuzz_random *random, header *of, bx_input *input, uint8_t *raw, uint32_t *blocks,
                          uint8_t *to) {
    const size_t count = of->frame.blocks, block_nbytes = (size_t)BX_BLOCK * of->frame.item;
    const size_t rare = 1 + fuzz_below(random, 5), stretch = 1 + fuzz_below(random, 9);
    const uint8_t *begin = to;
    uint8_t *equal = malloc(count + 4);
    if (equal == NULL)
        abort();
    of->zero_flags = (unsigned)fuzz_below(random, 4);
    memset(equal, 0, count + 4);
    for (size_t k = 0; k < count && of->zero_flags; k++)
        equal[k] = k % stretch ? equal[k - 1] : !fuzz_below(random, rare);
    for (size_t k = 0; k < count; k++) {
        if (equal[k])
            memcpy(raw + k * block_nbytes, input->base + k * block_nbytes, block_nbytes);
        else
            blocks[input->listed++] = (uint32_t)k;
    }
    if (of->zero_flags == BX_FLAGS_MAP) {
        memset(to, 0, (count + 7) / 8);
        for (size_t k = 0; k < count; k++)
            to[k / 8] |= (uint8_t)(equal[k] << (k & 7));
        to += (count + 7) / 8;
    } else if (of->zero_flags == BX_FLAGS_CODED) {
        uint8_t *nibbles = malloc(count / 4 + 1);
        if (nibbles == NULL)
            abort();
        for (size_t k = 0; k < count; k += 4)
            nibbles[k / 4] = (uint8_t)(equal[k] | equal[k + 1] << 1 | equal[k + 2] << 2 | equal[k + 3] << 3);
        to += bx_encode_symbols(nibbles, (count + 3) / 4, to);
        free(nibbles);
    } else if (of->zero_flags == BX_FLAGS_RUNS) {
        for (size_t k = 0, start = 0, now = 0; k <= count; k++) {
            if (k < count && equal[k] == now)
                continue;
            size_t run = k - start;
            for (; run >= 128; run >>= 7)
                *to++ = (uint8_t)(run | 128);
            *to++ = (uint8_t)run;
            start = k;
            now = !now;
        }
        of->runs_nbytes = (uint64_t)(to - begin);
    }
    free(equal);
    return to;
}

static uint8_t *put_scale_offsets(fuzz_random *random, header *of, const bx_input *input, uint16_t *levels,
                                  uint8_t *to) {
    bx_frame *frame = &of->frame;
    uint8_t *scale_offsets = malloc(frame->scale_offsets + 1);
    size_t present = 0;
    if (scale_offsets == NULL)
        abort();
    of->has_scale_offsets = !fuzz_below(random, 3);
    for (size_t k = 0; k < frame->scale_offsets; k++)
        levels[k] = (uint16_t)frame->lowest_exponent;
    for (size_t n = 0; of->has_scale_offsets && n < input->listed; n++) {
        if (n && input->blocks[n] / 2 == input->blocks[n - 1] / 2)
            continue;
        const unsigned scale_offset = (unsigned)fuzz_below(random, BX_SYMBOLS);
        const int level = (int)frame->lowest_exponent + (int)scale_offset - BX_SCALE_OFFSET_BIAS;
        levels[input->blocks[n] / 2] = (uint16_t)(level < 0 ? 0 : level);
        scale_offsets[present++] = (uint8_t)scale_offset;
    }
    if (of->has_scale_offsets)
        to += bx_encode_symbols(scale_offsets, present, to);
    free(scale_offsets);
    return to;
}

static void make_tables(fuzz_random *random, bx_frame *frame, const bx_symbols *symbols, size_t count) {
    uint32_t counts[BX_TABLES][BX_SYMBOLS] = {{0}};
    for (size_t k = 0; k < count; k++)
        counts[frame->context[symbols->keys[k] >> 4].table][symbols->keys[k] & 15]++;
    for (unsigned table = 0; table < frame->tables; table++) {
        counts[table][BX_ZERO]++;
        for (size_t more = 1 + fuzz_below(random, 3); more > 0; more--)
            counts[table][fuzz_below(random, BX_SYMBOLS)] += (uint32_t)fuzz_below(random, count / 4 + 2);
        counts[table][fuzz_below(random, 8)]++;
        bx_normalise(counts[table], frame->frequency[table]);
    }
}

/* The coded items of `raw`, some of which may become equal to the base. */
static uint8_t *put_items(fuzz_random *random, int layout, uint8_t *raw, const uint8_t *base, size_t nbytes,
                          uint8_t *to) {
    static uint16_t slots[BX_TABLES][BX_SCALE], first[BX_TABLES][BX_SYMBOLS];
    header of;
    memset(&of, 0, sizeof of);
    bx_frame *frame = &of.frame;
    bx_frame_init(frame, layout, nbytes / zf_layouts[layout].nbytes);
    choose_model(random, &of);
    const size_t whole = frame->items * frame->item, padded = frame->blocks * BX_BLOCK * frame->item;
    const size_t items = frame->blocks * BX_BLOCK, words_most = items * 2 * (1 + (size_t)frame->extra_steps) + 64;
    uint8_t *room = calloc(1, 8 * padded + 20 * items + words_most + 4096), *at = room;
    if (room == NULL)
        abort();
    uint16_t *levels = (uint16_t *)at;
    at += 2 * frame->scale_offsets + 2 * (frame->scale_offsets & 1);
    uint32_t *blocks = (uint32_t *)at;
    at += 4 * frame->blocks;
    uint8_t *raw_padded = at, *base_padded = at + padded;
    at += 2 * padded;
    memcpy(raw_padded, raw, whole);
    memcpy(base_padded, base, whole);
    bx_symbols symbols = {at, at + items, at + 9 * items, at + 10 * items + 64, 0, 0};
    at += 10 * items + padded + 128;
    uint8_t *flags = malloc(4 * frame->blocks + 4096);
    if (flags == NULL)
        abort();
    bx_input input = {raw_padded, base_padded, blocks, 0};
    uint8_t *flags_end = put_flags(random, &of, &input, raw_padded, blocks, flags);
    flags_end = put_scale_offsets(random, &of, &input, levels, flags_end);
    bx_symbolise_portable(frame, &input, 0, input.listed, levels, &symbols);
    of.literals = symbols.literals_count;
    of.extended_literals = symbols.extended_count;
    make_tables(random, frame, &symbols, input.listed * BX_BLOCK);
    bx_build_alias(frame, slots, first);
    uint32_t state[BX_LANES];
    for (unsigned k = 0; k < BX_LANES; k++)
        state[k] = BX_LOW;
    uint8_t *end = at + words_most;
    const uint8_t *words = bx_code_portable(frame, (const uint16_t (*)[BX_SCALE])slots,
                                            (const uint16_t (*)[BX_SYMBOLS])first, &symbols, input.listed, state, end);
    bx_bit_writer writer = {to, 1024, 0, 0};
    put_header(&writer, &of);
    to += (writer.position + 7) / 8;
    memcpy(to, raw + whole, nbytes - whole);
    to += nbytes - whole;
    const struct {
        const void *bytes;
        size_t nbytes;
    } parts[] = {{flags, (size_t)(flags_end - flags)},
                 {symbols.literals, symbols.literals_count * frame->item},
                 {symbols.extended_literals, symbols.extended_count},
                 {state, 4 * (size_t)frame->lanes},
                 {words, (size_t)(end - words)}};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        memcpy(to, parts[k].bytes, parts[k].nbytes);
        to += parts[k].nbytes;
    }
    free(flags);
    free(room);
    return to;
}

static uint8_t *put_halves(fuzz_random *random, const uint8_t *raw, const uint8_t *base, size_t items, uint8_t *to) {
    uint8_t *upper = malloc(4 * items + 1);
    if (upper == NULL)
        abort();
    for (size_t k = 0; k < items; k++) {
        memcpy(upper + 2 * k, raw + 4 * k + 2, 2);
        memcpy(upper + 2 * items + 2 * k, base + 4 * k + 2, 2);
    }
    to = put_items(random, ZF_BF16, upper, upper + 2 * items, 2 * items, to);
    free(upper);
    return to;
}

/* Items of a narrower layout against the base narrowed; `raw` becomes what they are widened to. */
static uint8_t *put_narrow(fuzz_random *random, int layout, int narrow, uint8_t *raw, const uint8_t *base, size_t items,
                           uint8_t *to) {
    const unsigned item = zf_layouts[narrow].nbytes;
    uint8_t *narrow_raw = malloc(2 * items * item + 1), *narrow_base = narrow_raw + items * item;
    if (narrow_raw == NULL)
        abort();
    zf_cast(base, items, layout, narrow, 1.0f, narrow_base);
    make_raw(random, narrow_raw, narrow_base, items * item, item, 0);
    zf_cast(narrow_raw, items, narrow, layout, 1.0f, raw);
    *to++ = (uint8_t)(narrow | BX_MODE_CODED << 4);
    to = put_items(random, narrow, narrow_raw, narrow_base, items * item, to);
    free(narrow_raw);
    return to;
}

/* A layout that items of `layout` can be narrowed to, or none. */
static int choose_narrow(fuzz_random *random, int layout) {
    static const uint8_t floats[] = {ZF_BF16, ZF_F16, ZF_E4M3, ZF_E5M2};
    const int narrow = floats[fuzz_below(random, sizeof floats)];
    const int fits = zf_is_narrower(narrow, layout);
    return fits && !fuzz_below(random, 3) ? narrow : ZF_PLAIN;
}

size_t fuzz_make_bitx(fuzz_random *random, uint8_t *data, size_t most) {
    const int layout = 1 + (int)fuzz_below(random, ZF_LAYOUTS - 1);
    const int halves = layout == ZF_F32 && !fuzz_below(random, 4), encoded = !fuzz_below(random, 3);
    const int narrow = halves ? ZF_PLAIN : choose_narrow(random, layout);
    const unsigned item = zf_layouts[layout].nbytes;
    const size_t nbytes = items_of_input(random, item) * item + (halves || narrow ? 0 : fuzz_below(random, item));
    const int kind = fuzz_below(random, 4) ? FUZZ_BASE_WEIGHTS : (int)fuzz_below(random, 3);
    const fuzz_head head = {FUZZ_BITX, halves ? FUZZ_BASE_HALVES : kind, nbytes, (uint32_t)fuzz_bits(random)};
    uint8_t *made = malloc(ROOM), *to = made + FUZZ_HEAD, *raw = malloc(nbytes + 1), *base = malloc(nbytes + 1);
    if (made == NULL || raw == NULL || base == NULL)
        abort();
    fuzz_put_head(made, head);
    fuzz_make_base(head, layout, base);
    make_raw(random, raw, base, nbytes, item, halves);
    if (narrow) {
        *to++ = (uint8_t)(layout | BX_MODE_NARROW << 4);
        to = put_narrow(random, layout, narrow, raw, base, nbytes / item, to);
    }
    if (encoded) {
        to = made + FUZZ_HEAD;
        size_t used = 0;
        zf_dispatch_override((int)fuzz_below(random, (size_t)zf_dispatch_best() + 1));
        to = zf_bitx_encode(raw, base, nbytes, layout, to, 2 * nbytes + 4096, &used) ? NULL : to + used;
    } else if (!narrow && !fuzz_below(random, 20)) {
        *to++ = (uint8_t)layout;
        memcpy(to, raw + nbytes - nbytes % item, nbytes % item);
        to += nbytes % item;
    } else if (!narrow) {
        *to++ = (uint8_t)(layout | (halves ? BX_MODE_HALVES : BX_MODE_CODED) << 4);
        to = halves ? put_halves(random, raw, base, nbytes / 4, to) : put_items(random, layout, raw, base, nbytes, to);
    }
    const size_t size = to != NULL && (size_t)(to - made) <= most ? (size_t)(to - made) : 0;
    memcpy(data, made, size);
    free(base);
    free(raw);
    free(made);
    return size;
}
