/* The bitx encoder: lists the blocks that changed, chooses a model, turns items into symbols, codes them backwards. */
#include "bitx_encode.h"
#include "cast.h"

#include <stdlib.h>

static size_t put_varint(uint8_t *p, size_t value) {
    size_t n = 0;
    for (; value >= 128; value >>= 7)
        p[n++] = (uint8_t)(value | 128);
    p[n++] = (uint8_t)value;
    return n;
}

/* Lists the blocks that differ from the base and writes zero flags if they pay: returns their kind.  `coded` has room
   for a symbol stream of a quarter of the blocks. */
static unsigned list_blocks(const bx_frame *frame, bx_input *input, uint32_t *blocks, uint8_t *flags, uint8_t *coded,
                            size_t *flags_nbytes) {
    const size_t block_nbytes = (size_t)BX_BLOCK * frame->item, total = frame->items * frame->item;
    size_t listed = 0, runs = 0, at = 0;
    for (size_t k = 0; k < frame->blocks; k++) {
        const size_t start = k * block_nbytes, n = total - start < block_nbytes ? total - start : block_nbytes;
        if (memcmp(input->raw + start, input->base + start, n)) {
            runs += listed == 0 ? k > 0 : blocks[listed - 1] != k - 1;
            blocks[listed++] = (uint32_t)k;
        }
    }
    *flags_nbytes = 0;
    input->blocks = blocks;
    input->listed = listed;
    if (listed == 0 || (frame->blocks - listed) * 48 < frame->blocks) {
        for (size_t k = 0; k < frame->blocks && listed; k++)
            blocks[k] = (uint32_t)k;
        input->listed = listed ? frame->blocks : 0;
        return BX_FLAGS_NONE;
    }
    if (runs * 3 > frame->blocks / 8) {
        const size_t map_nbytes = (frame->blocks + 7) / 8, nibbles = (frame->blocks + 3) / 4;
        memset(flags, 0, map_nbytes + nibbles);
        for (size_t k = 0, next = 0; k < frame->blocks; k++) {
            if (next < listed && blocks[next] == k) {
                next++;
            } else {
                flags[k / 8] |= (uint8_t)(1 << (k & 7));
                flags[map_nbytes + k / 4] |= (uint8_t)(1 << (k & 3));
            }
        }
        const size_t coded_nbytes = bx_encode_symbols(flags + map_nbytes, nibbles, coded);
        *flags_nbytes = map_nbytes < coded_nbytes ? map_nbytes : coded_nbytes;
        if (map_nbytes <= coded_nbytes)
            return BX_FLAGS_MAP;
        memcpy(flags, coded, coded_nbytes);
        return BX_FLAGS_CODED;
    }
    for (size_t next = 0; at < frame->blocks;) {
        size_t run = 0;
        while (next + run < listed && blocks[next + run] == at + run)
            run++;
        next += run;
        at += run;
        *flags_nbytes += put_varint(flags + *flags_nbytes, run);
        if (at == frame->blocks)
            break;
        size_t behind = next < listed ? blocks[next] : frame->blocks;
        *flags_nbytes += put_varint(flags + *flags_nbytes, behind - at);
        at = behind;
    }
    return BX_FLAGS_RUNS;
}

static void put_header(bx_bit_writer *writer, const bx_frame *frame, unsigned zero_flags, size_t flags_nbytes,
                       int has_scale_offsets, const bx_symbols *symbols) {
    bx_put(writer, zero_flags, 2);
    bx_put(writer, (unsigned)has_scale_offsets, 1);
    bx_put(writer, frame->lanes == 64 ? 3 : frame->lanes == 16 ? 2 : frame->lanes == 4 ? 1 : 0, 2);
    bx_put(writer, frame->tables - 1, 3);
    bx_put(writer, frame->contexts - 1, 4);
    bx_put(writer, (unsigned)frame->has_direct, 1);
    bx_put(writer, frame->lowest_exponent, 11);
    if (frame->has_direct)
        bx_put(writer, frame->top_exponent, 11);
    bx_put_number(writer, symbols->literals_count);
    bx_put_number(writer, symbols->extended_count);
    if (zero_flags == BX_FLAGS_RUNS)
        bx_put_number(writer, flags_nbytes);
    unsigned shift = 0;
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

/* Drops contexts that do not occur from the end, and lets the others that do not repeat their neighbour. */
static void trim_contexts(bx_frame *frame, uint32_t (*counts)[BX_SYMBOLS]) {
    unsigned last = 0, extra = 0;
    frame->has_direct = 0;
    for (unsigned c = 0; c < BX_CONTEXTS; c++) {
        uint32_t any = 0;
        for (unsigned k = 0; k < BX_SYMBOLS; k++)
            any |= counts[c][k];
        if (any) {
            last = c;
            frame->has_direct |= frame->context[c].direct;
            const unsigned beyond = frame->context[c].shift - bx_step_bits(frame->context[c].shift);
            extra = extra > beyond ? extra : beyond;
        } else {
            frame->context[c] = c ? frame->context[c - 1] : (bx_context){0, 0, 0};
        }
    }
    frame->contexts = last + 1;
    frame->extra_steps = (extra + BX_EXTRA_BITS - 1) / BX_EXTRA_BITS;
}

typedef struct {
    uint32_t *blocks;
    uint16_t *levels;
    uint8_t *scale_offsets;
    uint64_t *magnitudes;
    uint8_t *flags;
    uint8_t *scale_offset_stream;
    uint8_t *words_end;
    bx_symbols symbols;
    uint16_t (*slots)[BX_SCALE];
} scratch;

static size_t aligned(size_t nbytes) { return (nbytes + 63) & ~(size_t)63; }

static uint8_t *allocate(const bx_frame *frame, scratch *of) {
    const size_t blocks = frame->blocks, items = blocks * BX_BLOCK, scale_offsets = frame->scale_offsets;
    const size_t steps = 1 + (frame->item <= 2 ? 1 : frame->item == 4 ? 2 : 4);
    const size_t nbytes[] = {4 * blocks,
                             2 * scale_offsets,
                             scale_offsets,
                             8 * scale_offsets,
                             blocks * 5 + 128,
                             2 * scale_offsets + 128,
                             items,
                             items * bx_low_nbytes(frame->item),
                             items + 64,
                             items * frame->item + 64,
                             items * 2 * steps + 64,
                             sizeof(uint16_t) * BX_TABLES * BX_SCALE};
    enum { PARTS = sizeof nbytes / sizeof *nbytes };
    size_t total = 0, at[PARTS + 1] = {0};
    for (unsigned k = 0; k < PARTS; k++)
        at[k + 1] = total += aligned(nbytes[k]);
    uint8_t *memory = malloc(total + 64);
    if (memory == NULL)
        return NULL;
    of->blocks = (uint32_t *)(memory + at[0]);
    of->levels = (uint16_t *)(memory + at[1]);
    of->scale_offsets = memory + at[2];
    of->magnitudes = (uint64_t *)(memory + at[3]);
    of->flags = memory + at[4];
    of->scale_offset_stream = memory + at[5];
    of->symbols = (bx_symbols){memory + at[6], memory + at[7], memory + at[8], memory + at[9], 0, 0};
    of->words_end = memory + at[11];
    of->slots = (uint16_t (*)[BX_SCALE])(memory + at[11]);
    return memory;
}

static void symbolise_all(const bx_frame *frame, const bx_input *input, const uint16_t *levels, bx_symbols *symbols) {
    bx_symbolise *by = bx_symbolise_portable;
#if ZF_X86
    if (frame->item <= 4 && zf_isa() >= ZF_AVX2)
        by = zf_isa() == ZF_AVX512 ? bx_symbolise_avx512 : bx_symbolise_avx2;
#endif
    const size_t rest = frame->items % BX_BLOCK, listed = input->listed;
    if (!rest || input->blocks[listed - 1] != frame->blocks - 1) {
        by(frame, input, 0, listed, levels, symbols);
        return;
    }
    /* The last block, filled up with zeros. */
    uint8_t raw[BX_BLOCK * 8] = {0}, base[BX_BLOCK * 8] = {0};
    const size_t start = (frame->blocks - 1) * BX_BLOCK * frame->item;
    const uint32_t first = 0;
    memcpy(raw, input->raw + start, rest * frame->item);
    memcpy(base, input->base + start, rest * frame->item);
    by(frame, input, 0, listed - 1, levels, symbols);
    bx_symbols end = *symbols;
    end.keys += (listed - 1) * BX_BLOCK;
    end.lows += (listed - 1) * BX_BLOCK * bx_low_nbytes(frame->item);
    by(frame, &(bx_input){raw, base, &first, 1}, 0, 1, levels + (frame->blocks - 1) / 2, &end);
    symbols->extended_count = end.extended_count;
    symbols->literals_count = end.literals_count;
}

static void count_symbols(const bx_symbols *symbols, size_t count, uint32_t (*counts)[BX_SYMBOLS]) {
    uint32_t part[4][256];
    memset(part, 0, sizeof part);
    for (size_t k = 0; k < count; k += 8) {
        uint64_t keys = zf_get64(symbols->keys + k);
        for (unsigned j = 0; j < 8; j++)
            part[j & 3][keys >> 8 * j & 255]++;
    }
    for (unsigned k = 0; k < 256; k++)
        counts[k / 16][k % 16] = part[0][k] + part[1][k] + part[2][k] + part[3][k];
}

/* Only those with a coded block are written.  They are moved together in place. */
static size_t encode_scale_offsets(const bx_input *input, uint8_t *scale_offsets, uint8_t *out) {
    size_t present = 0;
    for (size_t n = 0; n < input->listed; n++)
        if (n == 0 || input->blocks[n] / 2 != input->blocks[n - 1] / 2)
            scale_offsets[present++] = scale_offsets[input->blocks[n] / 2];
    return bx_encode_symbols(scale_offsets, present, out);
}

typedef struct {
    uint8_t *p;
    size_t left;
    int full;
} sink;

static void pour(sink *to, const void *from, size_t nbytes) {
    if (to->full || nbytes > to->left) {
        to->full = 1;
        return;
    }
    if (nbytes)
        memcpy(to->p, from, nbytes);
    to->p += nbytes;
    to->left -= nbytes;
}

static int encode_coded(bx_frame *frame, scratch *of, const uint8_t *raw, const uint8_t *base, const uint8_t *tail,
                        size_t tail_nbytes, uint8_t *out, size_t capacity, size_t *used) {
    bx_input input = {raw, base, NULL, 0};
    size_t flags_nbytes, scale_offsets_nbytes = 0;
    const unsigned zero_flags = list_blocks(frame, &input, of->blocks, of->flags, of->scale_offset_stream,
                                            &flags_nbytes);
    sink to = {out, capacity, 0};
    const uint8_t head = (uint8_t)(frame->layout | (input.listed ? BX_MODE_CODED : BX_MODE_EQUAL) << 4);
    if (!input.listed) {
        pour(&to, &head, 1);
        pour(&to, tail, tail_nbytes);
        *used = capacity - to.left;
        return to.full;
    }
    const size_t coded = input.listed * BX_BLOCK;
    frame->lanes = coded < 1024 ? 1 : coded < 4096 ? 4 : coded < 32768 ? 16 : 64;
    const bx_plan plan = bx_choose_model(frame, &input, of->scale_offsets, of->magnitudes);
    if (plan.bits / 8 > 1.02 * (double)capacity + 64 ||
        (plan.standalone_bits > 0 && input.listed == frame->blocks && plan.bits > 0.99 * plan.standalone_bits))
        return 1;
    for (size_t k = 0; k < frame->scale_offsets; k++) {
        int level = (int)frame->lowest_exponent +
                    (plan.has_scale_offsets ? of->scale_offsets[k] - BX_SCALE_OFFSET_BIAS : 0);
        of->levels[k] = (uint16_t)(level < 0 ? 0 : level);
    }
    frame->extra_steps = 0;
    for (unsigned c = 0; c < BX_CONTEXTS; c++) {
        frame->extra_steps |= frame->context[c].shift > BX_STEP_BITS;
        frame->has_direct |= frame->context[c].direct;
    }
    symbolise_all(frame, &input, of->levels, &of->symbols);

    uint32_t counts[BX_CONTEXTS][BX_SYMBOLS];
    uint16_t first[BX_TABLES][BX_SYMBOLS];
    count_symbols(&of->symbols, coded, counts);
    trim_contexts(frame, counts);
    bx_choose_tables(frame, counts);
    bx_build_alias(frame, of->slots, first);
    bx_code *code_by = bx_code_portable;
#if ZF_X86
    if (frame->lanes == BX_LANES && zf_isa() >= ZF_AVX2)
        code_by = zf_isa() == ZF_AVX512 && frame->item <= 4 ? bx_code_avx512 : bx_code_avx2;
#endif
    uint32_t state[BX_LANES];
    for (unsigned k = 0; k < BX_LANES; k++)
        state[k] = BX_LOW;
    const uint8_t *words = code_by(frame, (const uint16_t (*)[BX_SCALE])of->slots,
                                   (const uint16_t (*)[BX_SYMBOLS])first, &of->symbols, input.listed, state,
                                   of->words_end);

    if (plan.has_scale_offsets)
        scale_offsets_nbytes = encode_scale_offsets(&input, of->scale_offsets, of->scale_offset_stream);
    uint8_t header[512];
    bx_bit_writer writer = {header, sizeof header, 0, 0};
    put_header(&writer, frame, zero_flags, flags_nbytes, plan.has_scale_offsets, &of->symbols);
    if (writer.overrun)
        return 1;
    pour(&to, &head, 1);
    pour(&to, header, (writer.position + 7) / 8);
    pour(&to, tail, tail_nbytes);
    pour(&to, of->flags, flags_nbytes);
    pour(&to, of->scale_offset_stream, scale_offsets_nbytes);
    pour(&to, of->symbols.literals, of->symbols.literals_count * frame->item);
    pour(&to, of->symbols.extended_literals, of->symbols.extended_count);
    pour(&to, state, 4 * frame->lanes);
    pour(&to, words, (size_t)(of->words_end - words));
    *used = capacity - to.left;
    return to.full;
}

static int encode_items(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out,
                        size_t capacity, size_t *used) {
    bx_frame frame;
    scratch of;
    bx_frame_init(&frame, layout, nbytes / zf_layouts[layout].nbytes);
    if (frame.blocks > UINT32_MAX / BX_BLOCK)
        return 1; /* counts are of 32 bits */
    const size_t whole = frame.items * frame.item;
    uint8_t *memory = allocate(&frame, &of);
    if (memory == NULL)
        return 1;
    int failed = encode_coded(&frame, &of, raw, base, raw + whole, nbytes - whole, out, capacity, used);
    free(memory);
    return failed;
}

/* Narrow items of `raw` against the base narrowed, behind the byte that says so. */
static int encode_narrow(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, int narrow, uint8_t *out,
                         size_t capacity, size_t *used) {
    const size_t items = nbytes / zf_layouts[layout].nbytes, narrow_nbytes = items * zf_layouts[narrow].nbytes;
    uint8_t *narrow_raw = capacity ? malloc(2 * narrow_nbytes) : NULL;
    if (narrow_raw == NULL)
        return 1;
    uint8_t *narrow_base = narrow_raw + narrow_nbytes;
    zf_cast(raw, items, layout, narrow, 1.0f, narrow_raw);
    zf_cast(base, items, layout, narrow, 1.0f, narrow_base);
    *out = (uint8_t)(layout | BX_MODE_NARROW << 4);
    int failed = encode_items(narrow_raw, narrow_base, narrow_nbytes, narrow, out + 1, capacity - 1, used);
    *used += 1;
    free(narrow_raw);
    return failed;
}

int zf_bitx_encode(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out, size_t capacity,
                   size_t *used) {
    if (!nbytes)
        return 1;
    const int narrow = memcmp(raw, base, nbytes) ? zf_narrow_layout(raw, nbytes, layout) : ZF_PLAIN;
    if (narrow != ZF_PLAIN)
        return encode_narrow(raw, base, nbytes, layout, narrow, out, capacity, used);
    return encode_items(raw, base, nbytes, layout, out, capacity, used);
}
