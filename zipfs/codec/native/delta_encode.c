/* The delta encoder: lists the blocks that changed, chooses a model, turns items into symbols, codes them backwards. */
#include "delta_encode.h"

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
static unsigned list_blocks(const zd_frame *frame, zd_input *input, uint32_t *blocks, uint8_t *flags, uint8_t *coded,
                            size_t *flags_nbytes) {
    const size_t block_nbytes = (size_t)ZD_BLOCK * frame->item, total = frame->items * frame->item;
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
        return ZD_FLAGS_NONE;
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
        const size_t coded_nbytes = zd_encode_symbols(flags + map_nbytes, nibbles, coded);
        *flags_nbytes = map_nbytes < coded_nbytes ? map_nbytes : coded_nbytes;
        if (map_nbytes <= coded_nbytes)
            return ZD_FLAGS_MAP;
        memcpy(flags, coded, coded_nbytes);
        return ZD_FLAGS_CODED;
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
    return ZD_FLAGS_RUNS;
}

static void put_header(zd_bit_writer *writer, const zd_frame *frame, unsigned zero_flags, size_t flags_nbytes,
                       int has_octaves, const zd_symbols *symbols) {
    zd_put(writer, zero_flags, 2);
    zd_put(writer, (unsigned)has_octaves, 1);
    zd_put(writer, frame->lanes == 64 ? 3 : frame->lanes == 16 ? 2 : frame->lanes == 4 ? 1 : 0, 2);
    zd_put(writer, frame->tables - 1, 3);
    zd_put(writer, frame->contexts - 1, 4);
    zd_put(writer, (unsigned)frame->has_direct, 1);
    zd_put(writer, frame->lowest_exponent, 11);
    if (frame->has_direct)
        zd_put(writer, frame->top_exponent, 11);
    zd_put_number(writer, symbols->escapes_count);
    zd_put_number(writer, symbols->fars_count);
    if (zero_flags == ZD_FLAGS_RUNS)
        zd_put_number(writer, flags_nbytes);
    unsigned shift = 0;
    for (unsigned k = 0; k < frame->contexts; k++) {
        const zd_context *context = &frame->context[k];
        if (frame->tables > 1)
            zd_put(writer, context->table, 3);
        if (frame->has_direct)
            zd_put(writer, context->direct, 1);
        if (context->direct)
            continue;
        zd_put(writer, context->shift != shift, 1);
        if (context->shift != shift)
            zd_put(writer, context->shift, 6);
        shift = context->shift;
    }
    for (unsigned k = 0; k < frame->tables; k++)
        zd_put_table(writer, frame->frequency[k]);
}

/* Drops contexts that do not occur from the end, and lets the others that do not repeat their neighbour. */
static void trim_contexts(zd_frame *frame, uint32_t (*counts)[ZD_SYMBOLS]) {
    unsigned last = 0, extra = 0;
    frame->has_direct = 0;
    for (unsigned c = 0; c < ZD_CONTEXTS; c++) {
        uint32_t any = 0;
        for (unsigned k = 0; k < ZD_SYMBOLS; k++)
            any |= counts[c][k];
        if (any) {
            last = c;
            frame->has_direct |= frame->context[c].direct;
            const unsigned beyond = frame->context[c].shift - zd_step_bits(frame->context[c].shift);
            extra = extra > beyond ? extra : beyond;
        } else {
            frame->context[c] = c ? frame->context[c - 1] : (zd_context){0, 0, 0};
        }
    }
    frame->contexts = last + 1;
    frame->extra_steps = (extra + ZD_EXTRA_BITS - 1) / ZD_EXTRA_BITS;
}

typedef struct {
    uint32_t *blocks;
    uint16_t *levels;
    uint8_t *octaves;
    uint64_t *magnitudes;
    uint8_t *flags;
    uint8_t *octave_stream;
    uint8_t *words_end;
    zd_symbols symbols;
    uint16_t (*slots)[ZD_SCALE];
} scratch;

static size_t aligned(size_t nbytes) { return (nbytes + 63) & ~(size_t)63; }

static uint8_t *allocate(const zd_frame *frame, scratch *of) {
    const size_t blocks = frame->blocks, items = blocks * ZD_BLOCK, octaves = frame->octaves;
    const size_t steps = 1 + (frame->item <= 2 ? 1 : frame->item == 4 ? 2 : 4);
    const size_t nbytes[] = {4 * blocks,
                             2 * octaves,
                             octaves,
                             8 * octaves,
                             blocks * 5 + 128,
                             2 * octaves + 128,
                             items,
                             items * zd_low_nbytes(frame->item),
                             items + 64,
                             items * frame->item + 64,
                             items * 2 * steps + 64,
                             sizeof(uint16_t) * ZD_TABLES * ZD_SCALE};
    enum { PARTS = sizeof nbytes / sizeof *nbytes };
    size_t total = 0, at[PARTS + 1] = {0};
    for (unsigned k = 0; k < PARTS; k++)
        at[k + 1] = total += aligned(nbytes[k]);
    uint8_t *memory = malloc(total + 64);
    if (memory == NULL)
        return NULL;
    of->blocks = (uint32_t *)(memory + at[0]);
    of->levels = (uint16_t *)(memory + at[1]);
    of->octaves = memory + at[2];
    of->magnitudes = (uint64_t *)(memory + at[3]);
    of->flags = memory + at[4];
    of->octave_stream = memory + at[5];
    of->symbols = (zd_symbols){memory + at[6], memory + at[7], memory + at[8], memory + at[9], 0, 0};
    of->words_end = memory + at[11];
    of->slots = (uint16_t (*)[ZD_SCALE])(memory + at[11]);
    return memory;
}

static void symbolise_all(const zd_frame *frame, const zd_input *input, const uint16_t *levels, zd_symbols *symbols) {
    zd_symbolise *by = zd_symbolise_portable;
#if ZF_X86
    if (frame->item <= 4 && zf_isa() >= ZF_AVX2)
        by = zf_isa() == ZF_AVX512 ? zd_symbolise_avx512 : zd_symbolise_avx2;
#endif
    const size_t rest = frame->items % ZD_BLOCK, listed = input->listed;
    if (!rest || input->blocks[listed - 1] != frame->blocks - 1) {
        by(frame, input, 0, listed, levels, symbols);
        return;
    }
    /* The last block, filled up with zeros. */
    uint8_t raw[ZD_BLOCK * 8] = {0}, base[ZD_BLOCK * 8] = {0};
    const size_t start = (frame->blocks - 1) * ZD_BLOCK * frame->item;
    const uint32_t first = 0;
    memcpy(raw, input->raw + start, rest * frame->item);
    memcpy(base, input->base + start, rest * frame->item);
    by(frame, input, 0, listed - 1, levels, symbols);
    zd_symbols end = *symbols;
    end.keys += (listed - 1) * ZD_BLOCK;
    end.lows += (listed - 1) * ZD_BLOCK * zd_low_nbytes(frame->item);
    by(frame, &(zd_input){raw, base, &first, 1}, 0, 1, levels + (frame->blocks - 1) / 2, &end);
    symbols->fars_count = end.fars_count;
    symbols->escapes_count = end.escapes_count;
}

static void count_symbols(const zd_symbols *symbols, size_t count, uint32_t (*counts)[ZD_SYMBOLS]) {
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
static size_t encode_octaves(const zd_input *input, uint8_t *octaves, uint8_t *out) {
    size_t present = 0;
    for (size_t n = 0; n < input->listed; n++)
        if (n == 0 || input->blocks[n] / 2 != input->blocks[n - 1] / 2)
            octaves[present++] = octaves[input->blocks[n] / 2];
    return zd_encode_symbols(octaves, present, out);
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

static int encode_coded(zd_frame *frame, scratch *of, const uint8_t *raw, const uint8_t *base, const uint8_t *tail,
                        size_t tail_nbytes, uint8_t head, uint8_t *out, size_t capacity, size_t *used) {
    zd_input input = {raw, base, NULL, 0};
    size_t flags_nbytes, octaves_nbytes = 0;
    const unsigned zero_flags = list_blocks(frame, &input, of->blocks, of->flags, of->octave_stream, &flags_nbytes);
    sink to = {out, capacity, 0};
    if (!input.listed) {
        head &= 15;
        pour(&to, &head, 1);
        pour(&to, tail, tail_nbytes);
        *used = capacity - to.left;
        return to.full;
    }
    const size_t coded = input.listed * ZD_BLOCK;
    frame->lanes = coded < 1024 ? 1 : coded < 4096 ? 4 : coded < 32768 ? 16 : 64;
    const zd_plan plan = zd_choose_model(frame, &input, of->octaves, of->magnitudes);
    if (plan.bits / 8 > 1.02 * (double)capacity + 64 ||
        (plan.alone_bits > 0 && input.listed == frame->blocks && plan.bits > 0.99 * plan.alone_bits))
        return 1;
    for (size_t k = 0; k < frame->octaves; k++) {
        int level = (int)frame->lowest_exponent + (plan.has_octaves ? of->octaves[k] - ZD_OCTAVE_BIAS : 0);
        of->levels[k] = (uint16_t)(level < 0 ? 0 : level);
    }
    frame->extra_steps = 0;
    for (unsigned c = 0; c < ZD_CONTEXTS; c++) {
        frame->extra_steps |= frame->context[c].shift > ZD_STEP_BITS;
        frame->has_direct |= frame->context[c].direct;
    }
    symbolise_all(frame, &input, of->levels, &of->symbols);

    uint32_t counts[ZD_CONTEXTS][ZD_SYMBOLS];
    uint16_t first[ZD_TABLES][ZD_SYMBOLS];
    count_symbols(&of->symbols, coded, counts);
    trim_contexts(frame, counts);
    zd_choose_tables(frame, counts);
    zd_build_alias(frame, of->slots, first);
    zd_code *code_by = zd_code_portable;
#if ZF_X86
    if (frame->lanes == ZD_LANES && zf_isa() >= ZF_AVX2)
        code_by = zf_isa() == ZF_AVX512 && frame->item <= 4 ? zd_code_avx512 : zd_code_avx2;
#endif
    uint32_t state[ZD_LANES];
    for (unsigned k = 0; k < ZD_LANES; k++)
        state[k] = ZD_LOW;
    const uint8_t *words = code_by(frame, (const uint16_t (*)[ZD_SCALE])of->slots,
                                   (const uint16_t (*)[ZD_SYMBOLS])first, &of->symbols, input.listed, state,
                                   of->words_end);

    if (plan.has_octaves)
        octaves_nbytes = encode_octaves(&input, of->octaves, of->octave_stream);
    uint8_t header[512];
    zd_bit_writer writer = {header, sizeof header, 0, 0};
    put_header(&writer, frame, zero_flags, flags_nbytes, plan.has_octaves, &of->symbols);
    if (writer.overrun)
        return 1;
    pour(&to, &head, 1);
    pour(&to, header, (writer.position + 7) / 8);
    pour(&to, tail, tail_nbytes);
    pour(&to, of->flags, flags_nbytes);
    pour(&to, of->octave_stream, octaves_nbytes);
    pour(&to, of->symbols.escapes, of->symbols.escapes_count * frame->item);
    pour(&to, of->symbols.fars, of->symbols.fars_count);
    pour(&to, state, 4 * frame->lanes);
    pour(&to, words, (size_t)(of->words_end - words));
    *used = capacity - to.left;
    return to.full;
}

static int encode_items(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t head, uint8_t *out,
                        size_t capacity, size_t *used) {
    zd_frame frame;
    scratch of;
    zd_frame_init(&frame, layout, nbytes / zf_layouts[layout].nbytes);
    if (frame.blocks > UINT32_MAX / ZD_BLOCK)
        return 1; /* counts are of 32 bits */
    const size_t whole = frame.items * frame.item;
    uint8_t *memory = allocate(&frame, &of);
    if (memory == NULL)
        return 1;
    int failed = encode_coded(&frame, &of, raw, base, raw + whole, nbytes - whole, head, out, capacity, used);
    free(memory);
    return failed;
}

/* Whether these are BF16 values held as F32 on both sides. */
static int only_halves(const uint8_t *raw, const uint8_t *base, size_t nbytes) {
    uint32_t any = 0;
    size_t k = 0;
    for (; k + 256 <= nbytes && !(any & 0xFFFF); k += 256)
        for (size_t j = k; j < k + 256; j += 4)
            any |= zf_get32(raw + j) | zf_get32(base + j);
    for (; k + 4 <= nbytes; k += 4)
        any |= zf_get32(raw + k) | zf_get32(base + k);
    return !(any & 0xFFFF);
}

int zf_delta_encode(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out, size_t capacity,
                    size_t *used) {
    if (!nbytes)
        return 1;
    const uint8_t head = (uint8_t)(layout | ZD_MODE_CODED << 4);
    if (layout == ZF_F32 && nbytes % 4 == 0 && only_halves(raw, base, nbytes) && memcmp(raw, base, nbytes)) {
        uint8_t *halves = malloc(nbytes);
        if (halves == NULL)
            return 1;
        for (size_t k = 0; k < nbytes / 4; k++) {
            memcpy(halves + 2 * k, raw + 4 * k + 2, 2);
            memcpy(halves + nbytes / 2 + 2 * k, base + 4 * k + 2, 2);
        }
        int failed = encode_items(halves, halves + nbytes / 2, nbytes / 2, ZF_BF16,
                                  (uint8_t)(layout | ZD_MODE_HALVES << 4), out, capacity, used);
        free(halves);
        return failed;
    }
    return encode_items(raw, base, nbytes, layout, head, out, capacity, used);
}
