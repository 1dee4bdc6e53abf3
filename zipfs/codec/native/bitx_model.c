/* Choices of the bitx encoder, from a sample of the frame.  Integers throughout where a path of another instruction
   set does the same, so that all of them make the same bytes. */
#include "bitx_model.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_EXPONENTS = 2048 };

typedef struct {
    uint32_t classes[BX_CONTEXTS][BX_CLASSES]; /* by bit length of the residual's size */
    uint32_t own[BX_CONTEXTS][BX_SYMBOLS];     /* by how far the item's exponent lies below the top, capped */
} statistics;

/* Bits for residuals of these classes if `shift` low bits stay uncoded. */
static double shift_cost(const uint32_t *classes, unsigned shift, unsigned width) {
    double total = 0, core = 0, is_extended = 0, is_literal = 0, bits = 0;
    for (unsigned k = 0; k <= width; k++)
        total += classes[k];
    for (unsigned k = 0; k <= shift; k++)
        core += classes[k];
    if (shift == 0)
        bits -= bx_plogp(core);
    else
        bits -= bx_plogp(classes[0] + (core - classes[0]) / 2) + bx_plogp((core - classes[0]) / 2);
    for (unsigned k = 1; k <= 3 && shift + k <= width; k++) {
        double n = classes[shift + k], cells = 1 << k;
        if (k == 3) {
            double kept = shift ? 6 : 7;
            is_extended += n * (8 - kept) / 8;
            n *= kept / 8;
            cells = kept;
        }
        bits -= cells * bx_plogp(n / cells);
    }
    for (unsigned k = shift + 4; k <= width; k++) {
        if (k <= shift + 7)
            is_extended += classes[k];
        else
            is_literal += classes[k];
    }
    bits -= bx_plogp(is_extended) + bx_plogp(is_literal);
    return bits + bx_plogp(total) + total * shift + is_extended * 8 + is_literal * width;
}

static double direct_cost(const bx_frame *frame, const uint32_t *own) {
    double total = 0, bits = 0;
    for (unsigned k = 0; k < BX_SYMBOLS; k++) {
        total += own[k];
        bits -= bx_plogp(own[k]);
    }
    return bits + bx_plogp(total) + total * (frame->mantissa + 1) + (double)own[BX_EXTENDED] * 8 * frame->item;
}

/* Sets shifts and direct contexts and returns the estimated bits. */
static double choose_contexts(bx_frame *frame, const statistics *of) {
    const unsigned width = 8 * frame->item, most = frame->item == 1 ? 4 : width - 4;
    const unsigned cheap_most = frame->item <= 2 && most > BX_STEP_BITS ? BX_STEP_BITS : most;
    double cheap_total = 0, full_total = 0;
    bx_context cheap[BX_CONTEXTS], full[BX_CONTEXTS];
    memset(cheap, 0, sizeof cheap);
    memset(full, 0, sizeof full);
    for (unsigned c = 0; c < BX_CONTEXTS; c++) {
        double best = INFINITY, best_cheap = INFINITY;
        unsigned longest = 0;
        for (unsigned k = 0; k <= width; k++)
            longest = of->classes[c][k] ? k : longest;
        for (unsigned shift = 0; shift <= most && shift <= longest; shift++) {
            double cost = shift_cost(of->classes[c], shift, width);
            if (cost < best) {
                best = cost;
                full[c].shift = (uint8_t)shift;
            }
            if (cost < best_cheap && shift <= cheap_most) {
                best_cheap = cost;
                cheap[c].shift = (uint8_t)shift;
            }
        }
        if (frame->mantissa) {
            double cost = direct_cost(frame, of->own[c]);
            if (cost < best) {
                best = cost;
                full[c].direct = 1;
                full[c].shift = (uint8_t)(frame->mantissa + 1);
            }
        }
        cheap_total += best_cheap;
        full_total += best;
    }
    /* More than one step a symbol costs a third of the speed. */
    const int use_full = full_total < 0.99 * cheap_total;
    memcpy(frame->context, use_full ? full : cheap, sizeof full);
    return use_full ? full_total : cheap_total;
}

ZF_INLINE unsigned exponent_of(const bx_frame *frame, uint64_t b, int is_float) {
    return is_float ? (unsigned)(b >> frame->mantissa) & frame->exponent_mask : BX_INTEGER_EXPONENT;
}

ZF_INLINE uint64_t size_of(uint64_t d, unsigned width) {
    uint64_t sign = (uint64_t)1 << (width - 1);
    return d & sign ? (0 - d) & bx_mask(width) : d;
}

enum { SAMPLE_ENOUGH = 8192, SAMPLE_MOST = 2 * 16384, AHEAD = 8 };

/* What is looked at of a frame: some consecutive items of each listed block, or of every second, at a place that moves
   on from block to block so that no column of a matrix is favoured. */
typedef struct {
    size_t count;
    uint32_t *scale_offset; /* by number */
    uint16_t *exponent;     /* of the base */
    uint8_t *class;         /* bit length of the residual's size */
    uint16_t *own;          /* exponent of the item */
} sample;

ZF_INLINE void take_sample(const bx_frame *frame, const bx_input *input, sample *to, const unsigned item,
                           const int is_float) {
    const size_t items = input->listed * BX_BLOCK;
    size_t each = BX_BLOCK, stride = 1, count = 0;
    while (each > 8 && items / BX_BLOCK * each > SAMPLE_ENOUGH)
        each /= 2;
    while (items / BX_BLOCK / stride * each > SAMPLE_MOST / 2)
        stride *= 2;
    for (size_t n = 0, turn = 0; n < input->listed; n += stride, turn++) {
        if (n + AHEAD * stride < input->listed) {
            const size_t soon = (size_t)input->blocks[n + AHEAD * stride] * BX_BLOCK + (turn + AHEAD) * each % BX_BLOCK;
            __builtin_prefetch(input->raw + soon * item);
            __builtin_prefetch(input->base + soon * item);
        }
        size_t at = (size_t)input->blocks[n] * BX_BLOCK + turn * each % BX_BLOCK, stop = at + each;
        for (; at < stop && at < frame->items; at++, count++) {
            uint64_t f = bx_load(input->raw + at * item, item), b = bx_load(input->base + at * item, item);
            uint64_t size = size_of(bx_residual(f, b, item, is_float), 8 * item);
            to->scale_offset[count] = (uint32_t)(at / BX_SCALE_OFFSET);
            to->exponent[count] = (uint16_t)exponent_of(frame, b, is_float);
            to->own[count] = (uint16_t)exponent_of(frame, f, is_float);
            to->class[count] = (uint8_t)(size ? 64 - __builtin_clzll(size) : 0);
        }
    }
    to->count = count;
}

static void sample_items(const bx_frame *frame, const bx_input *input, sample *to) {
    switch (frame->exponent_mask ? frame->item : 0) {
    case 1: take_sample(frame, input, to, 1, 1); break;
    case 2: take_sample(frame, input, to, 2, 1); break;
    case 4: take_sample(frame, input, to, 4, 1); break;
    case 8: take_sample(frame, input, to, 8, 1); break;
    default: take_sample(frame, input, to, frame->item, 0);
    }
}

static void count_classes(const bx_frame *frame, const sample *from, const uint8_t *scale_offsets, statistics *of) {
    memset(of, 0, sizeof *of);
    for (size_t k = 0; k < from->count; k++) {
        int level = (int)frame->lowest_exponent;
        if (scale_offsets != NULL)
            level += scale_offsets[from->scale_offset[k]] - BX_SCALE_OFFSET_BIAS;
        level = level < 0 ? 0 : level;
        int number = (int)from->exponent[k] - level;
        number = number < 0 ? 0 : number >= BX_CONTEXTS ? BX_CONTEXTS - 1 : number;
        of->classes[number][from->class[k]]++;
        unsigned below = frame->top_exponent - from->own[k];
        of->own[number][below < BX_EXTENDED ? below : BX_EXTENDED]++;
    }
}

bx_plan bx_choose_model(bx_frame *frame, const bx_input *input, uint8_t *scale_offsets, uint64_t *magnitudes) {
    uint32_t of_base[MAX_EXPONENTS] = {0}, of_raw[MAX_EXPONENTS] = {0};
    size_t seen = 0;
    const int is_float = frame->exponent_mask != 0;
    bx_plan plan = {0, 0, 0};
    sample taken;
    uint8_t *memory = malloc(SAMPLE_MOST * 9);
    if (memory == NULL)
        return (bx_plan){INFINITY, 0, 0};
    taken.scale_offset = (uint32_t *)memory;
    taken.exponent = (uint16_t *)(taken.scale_offset + SAMPLE_MOST);
    taken.own = taken.exponent + SAMPLE_MOST;
    taken.class = (uint8_t *)(taken.own + SAMPLE_MOST);
    sample_items(frame, input, &taken);
    const size_t sampled = taken.count;
    for (size_t k = 0; k < sampled; k++) {
        of_base[taken.exponent[k]]++;
        of_raw[taken.own[k]]++;
    }
    const double scale = sampled ? (double)input->listed * BX_BLOCK / (double)sampled : 1;
    unsigned highest = frame->exponent_mask ? frame->exponent_mask : BX_INTEGER_EXPONENT;
    while (highest && (seen += of_base[highest]) * 1000 < sampled)
        highest--;
    seen = 0;
    frame->top_exponent = frame->exponent_mask;
    while (frame->top_exponent && (seen += of_raw[frame->top_exponent]) * 5000 < sampled)
        frame->top_exponent--;
    if (is_float) {
        double bits = bx_plogp((double)sampled) + (double)sampled * (frame->mantissa + 1);
        for (unsigned k = 0; k <= frame->exponent_mask; k++)
            bits -= bx_plogp(of_raw[k]);
        plan.standalone_bits = bits * scale;
    }

    frame->contexts = BX_CONTEXTS;
    frame->lowest_exponent = is_float ? (highest > BX_CONTEXTS - 1 ? highest - (BX_CONTEXTS - 1) : 0) : 4;
    bx_measure *measure_by = bx_measure_portable;
#if ZF_X86
    if (frame->item <= 4 && zf_isa() >= ZF_AVX2)
        measure_by = zf_isa() == ZF_AVX512 ? bx_measure_avx512 : bx_measure_avx2;
#endif
    memset(magnitudes, 0, frame->scale_offsets * sizeof *magnitudes);
    unsigned reference = highest > BX_MEASURE_EXPONENTS ? highest - BX_MEASURE_EXPONENTS : 0;
    measure_by(frame, input, reference, magnitudes);
    bx_guess_scale_offsets(frame, magnitudes, scale_offsets);

    statistics plain, shifted;
    bx_frame with = *frame;
    count_classes(frame, &taken, NULL, &plain);
    count_classes(&with, &taken, scale_offsets, &shifted);
    double plain_bits = choose_contexts(frame, &plain) * scale;
    double shifted_bits = choose_contexts(&with, &shifted) * scale + bx_scale_offset_bits(input, scale_offsets);
    if (frame->item == 2 && shifted_bits < plain_bits)
        bx_refine_scale_offsets(&with, input, shifted.classes, scale_offsets);
    free(memory);
    plan.bits = plain_bits;
    if (shifted_bits < plain_bits) {
        memcpy(frame->context, with.context, sizeof with.context);
        plan.bits = shifted_bits;
        plan.has_scale_offsets = 1;
    }
    return plan;
}

typedef struct {
    double bits; /* to code the counted symbols by a table of their own */
    uint32_t count[BX_SYMBOLS];
} cluster;

static double entropy(const uint32_t *count) {
    double bits = 0;
    uint64_t total = 0;
    for (unsigned k = 0; k < BX_SYMBOLS; k++) {
        total += count[k];
        bits -= bx_plogp(count[k]);
    }
    return bits + bx_plogp((double)total);
}

static double merged_cost(const cluster *a, const cluster *b) {
    uint32_t sum[BX_SYMBOLS];
    for (unsigned k = 0; k < BX_SYMBOLS; k++)
        sum[k] = a->count[k] + b->count[k];
    return entropy(sum) - a->bits - b->bits;
}

void bx_choose_tables(bx_frame *frame, uint32_t (*counts)[BX_SYMBOLS]) {
    enum { TABLE_BITS = 100 };
    cluster clusters[BX_CONTEXTS];
    double growth[BX_CONTEXTS][BX_CONTEXTS];
    uint8_t member[BX_CONTEXTS];
    unsigned number = 0;
    for (unsigned c = 0; c < frame->contexts; c++) {
        uint32_t any = 0;
        for (unsigned k = 0; k < BX_SYMBOLS; k++)
            any |= counts[c][k];
        member[c] = 0;
        if (!any)
            continue;
        memcpy(clusters[number].count, counts[c], sizeof clusters[number].count);
        clusters[number].bits = entropy(counts[c]);
        member[c] = (uint8_t)number++;
    }
    for (unsigned i = 0; i < number; i++)
        for (unsigned j = 0; j < i; j++)
            growth[i][j] = merged_cost(&clusters[i], &clusters[j]);
    while (number > 1) {
        unsigned a = 1, b = 0;
        for (unsigned i = 1; i < number; i++)
            for (unsigned j = 0; j < i; j++)
                if (growth[i][j] < growth[a][b]) {
                    a = i;
                    b = j;
                }
        if (number <= BX_TABLES && growth[a][b] > TABLE_BITS)
            break;
        for (unsigned k = 0; k < BX_SYMBOLS; k++)
            clusters[b].count[k] += clusters[a].count[k];
        clusters[b].bits += growth[a][b] + clusters[a].bits;
        number--;
        clusters[a] = clusters[number]; /* the last one takes the place of the one that is gone */
        for (unsigned c = 0; c < frame->contexts; c++)
            member[c] = member[c] == a ? (uint8_t)b : member[c] == number ? (uint8_t)a : member[c];
        for (unsigned i = 0; i < number; i++)
            for (unsigned j = 0; j < i; j++) {
                if (i == a || j == a || i == b || j == b)
                    growth[i][j] = merged_cost(&clusters[i], &clusters[j]);
            }
    }
    frame->tables = number ? number : 1;
    if (!number)
        memset(clusters[0].count, 0, sizeof clusters[0].count);
    for (unsigned k = 0; k < frame->tables; k++)
        bx_normalise(clusters[k].count, frame->frequency[k]);
    for (unsigned c = 0; c < frame->contexts; c++)
        frame->context[c].table = member[c];
}
