/* Choices of the delta encoder, from a sample of the frame.  Integers throughout where a path of another instruction
   set does the same, so that all of them make the same bytes. */
#include "delta_model.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_EXPONENTS = 2048 };

typedef struct {
    uint32_t classes[ZD_CONTEXTS][ZD_CLASSES]; /* by bit length of the residual's size */
    uint32_t own[ZD_CONTEXTS][ZD_SYMBOLS];     /* by how far the item's exponent lies below the top, capped */
} statistics;

/* Bits for residuals of these classes if `shift` low bits stay uncoded. */
static double shift_cost(const uint32_t *classes, unsigned shift, unsigned width) {
    double total = 0, core = 0, far = 0, escaped = 0, bits = 0;
    for (unsigned k = 0; k <= width; k++)
        total += classes[k];
    for (unsigned k = 0; k <= shift; k++)
        core += classes[k];
    if (shift == 0)
        bits -= zd_plogp(core);
    else
        bits -= zd_plogp(classes[0] + (core - classes[0]) / 2) + zd_plogp((core - classes[0]) / 2);
    for (unsigned k = 1; k <= 3 && shift + k <= width; k++) {
        double n = classes[shift + k], cells = 1 << k;
        if (k == 3) {
            double kept = shift ? 6 : 7;
            far += n * (8 - kept) / 8;
            n *= kept / 8;
            cells = kept;
        }
        bits -= cells * zd_plogp(n / cells);
    }
    for (unsigned k = shift + 4; k <= width; k++) {
        if (k <= shift + 7)
            far += classes[k];
        else
            escaped += classes[k];
    }
    bits -= zd_plogp(far) + zd_plogp(escaped);
    return bits + zd_plogp(total) + total * shift + far * 8 + escaped * width;
}

static double direct_cost(const zd_frame *frame, const uint32_t *own) {
    double total = 0, bits = 0;
    for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
        total += own[k];
        bits -= zd_plogp(own[k]);
    }
    return bits + zd_plogp(total) + total * (frame->mantissa + 1) + (double)own[ZD_FAR] * 8 * frame->item;
}

/* Sets shifts and direct contexts and returns the estimated bits. */
static double choose_contexts(zd_frame *frame, const statistics *of) {
    const unsigned width = 8 * frame->item, most = frame->item == 1 ? 4 : width - 4;
    const unsigned cheap_most = frame->item <= 2 && most > ZD_STEP_BITS ? ZD_STEP_BITS : most;
    double cheap_total = 0, full_total = 0;
    zd_context cheap[ZD_CONTEXTS], full[ZD_CONTEXTS];
    memset(cheap, 0, sizeof cheap);
    memset(full, 0, sizeof full);
    for (unsigned c = 0; c < ZD_CONTEXTS; c++) {
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

ZF_INLINE unsigned exponent_of(const zd_frame *frame, uint64_t b, int is_float) {
    return is_float ? (unsigned)(b >> frame->mantissa) & frame->exponent_mask : ZD_INTEGER_EXPONENT;
}

ZF_INLINE uint64_t size_of(uint64_t d, unsigned width) {
    uint64_t sign = (uint64_t)1 << (width - 1);
    return d & sign ? (0 - d) & zd_mask(width) : d;
}

enum { SAMPLE_ENOUGH = 8192, SAMPLE_MOST = 2 * 16384, AHEAD = 8 };

/* What is looked at of a frame: some consecutive items of each listed block, or of every second, at a place that moves
   on from block to block so that no column of a matrix is favoured. */
typedef struct {
    size_t count;
    uint32_t *octave;   /* by number */
    uint16_t *exponent; /* of the base */
    uint8_t *class;     /* bit length of the residual's size */
    uint16_t *own;      /* exponent of the item */
} sample;

ZF_INLINE void take_sample(const zd_frame *frame, const zd_input *input, sample *to, const unsigned item,
                           const int is_float) {
    const size_t items = input->listed * ZD_BLOCK;
    size_t each = ZD_BLOCK, stride = 1, count = 0;
    while (each > 8 && items / ZD_BLOCK * each > SAMPLE_ENOUGH)
        each /= 2;
    while (items / ZD_BLOCK / stride * each > SAMPLE_MOST / 2)
        stride *= 2;
    for (size_t n = 0, turn = 0; n < input->listed; n += stride, turn++) {
        if (n + AHEAD * stride < input->listed) {
            const size_t soon = (size_t)input->blocks[n + AHEAD * stride] * ZD_BLOCK + (turn + AHEAD) * each % ZD_BLOCK;
            __builtin_prefetch(input->raw + soon * item);
            __builtin_prefetch(input->base + soon * item);
        }
        size_t at = (size_t)input->blocks[n] * ZD_BLOCK + turn * each % ZD_BLOCK, stop = at + each;
        for (; at < stop && at < frame->items; at++, count++) {
            uint64_t f = zd_load(input->raw + at * item, item), b = zd_load(input->base + at * item, item);
            uint64_t size = size_of(zd_residual(f, b, item, is_float), 8 * item);
            to->octave[count] = (uint32_t)(at / ZD_OCTAVE);
            to->exponent[count] = (uint16_t)exponent_of(frame, b, is_float);
            to->own[count] = (uint16_t)exponent_of(frame, f, is_float);
            to->class[count] = (uint8_t)(size ? 64 - __builtin_clzll(size) : 0);
        }
    }
    to->count = count;
}

static void sample_items(const zd_frame *frame, const zd_input *input, sample *to) {
    switch (frame->exponent_mask ? frame->item : 0) {
    case 1: take_sample(frame, input, to, 1, 1); break;
    case 2: take_sample(frame, input, to, 2, 1); break;
    case 4: take_sample(frame, input, to, 4, 1); break;
    case 8: take_sample(frame, input, to, 8, 1); break;
    default: take_sample(frame, input, to, frame->item, 0);
    }
}

static void count_classes(const zd_frame *frame, const sample *from, const uint8_t *octaves, statistics *of) {
    memset(of, 0, sizeof *of);
    for (size_t k = 0; k < from->count; k++) {
        int level = (int)frame->lowest_exponent;
        if (octaves != NULL)
            level += octaves[from->octave[k]] - ZD_OCTAVE_BIAS;
        level = level < 0 ? 0 : level;
        int number = (int)from->exponent[k] - level;
        number = number < 0 ? 0 : number >= ZD_CONTEXTS ? ZD_CONTEXTS - 1 : number;
        of->classes[number][from->class[k]]++;
        unsigned below = frame->top_exponent - from->own[k];
        of->own[number][below < ZD_FAR ? below : ZD_FAR]++;
    }
}

zd_plan zd_choose_model(zd_frame *frame, const zd_input *input, uint8_t *octaves, uint64_t *magnitudes) {
    uint32_t of_base[MAX_EXPONENTS] = {0}, of_raw[MAX_EXPONENTS] = {0};
    size_t seen = 0;
    const int is_float = frame->exponent_mask != 0;
    zd_plan plan = {0, 0, 0};
    sample taken;
    uint8_t *memory = malloc(SAMPLE_MOST * 9);
    if (memory == NULL)
        return (zd_plan){INFINITY, 0, 0};
    taken.octave = (uint32_t *)memory;
    taken.exponent = (uint16_t *)(taken.octave + SAMPLE_MOST);
    taken.own = taken.exponent + SAMPLE_MOST;
    taken.class = (uint8_t *)(taken.own + SAMPLE_MOST);
    sample_items(frame, input, &taken);
    const size_t sampled = taken.count;
    for (size_t k = 0; k < sampled; k++) {
        of_base[taken.exponent[k]]++;
        of_raw[taken.own[k]]++;
    }
    const double scale = sampled ? (double)input->listed * ZD_BLOCK / (double)sampled : 1;
    unsigned highest = frame->exponent_mask ? frame->exponent_mask : ZD_INTEGER_EXPONENT;
    while (highest && (seen += of_base[highest]) * 1000 < sampled)
        highest--;
    seen = 0;
    frame->top_exponent = frame->exponent_mask;
    while (frame->top_exponent && (seen += of_raw[frame->top_exponent]) * 5000 < sampled)
        frame->top_exponent--;
    if (is_float) {
        double bits = zd_plogp((double)sampled) + (double)sampled * (frame->mantissa + 1);
        for (unsigned k = 0; k <= frame->exponent_mask; k++)
            bits -= zd_plogp(of_raw[k]);
        plan.alone_bits = bits * scale;
    }

    frame->contexts = ZD_CONTEXTS;
    frame->lowest_exponent = is_float ? (highest > ZD_CONTEXTS - 1 ? highest - (ZD_CONTEXTS - 1) : 0) : 4;
    zd_measure *measure_by = zd_measure_portable;
#if ZF_X86
    if (frame->item <= 4 && zf_isa() >= ZF_AVX2)
        measure_by = zf_isa() == ZF_AVX512 ? zd_measure_avx512 : zd_measure_avx2;
#endif
    memset(magnitudes, 0, frame->octaves * sizeof *magnitudes);
    unsigned reference = highest > ZD_MEASURE_EXPONENTS ? highest - ZD_MEASURE_EXPONENTS : 0;
    measure_by(frame, input, reference, magnitudes);
    zd_guess_octaves(frame, magnitudes, octaves);

    statistics plain, shifted;
    zd_frame with = *frame;
    count_classes(frame, &taken, NULL, &plain);
    count_classes(&with, &taken, octaves, &shifted);
    double plain_bits = choose_contexts(frame, &plain) * scale;
    double shifted_bits = choose_contexts(&with, &shifted) * scale + zd_octave_bits(input, octaves);
    if (frame->item == 2 && shifted_bits < plain_bits)
        zd_refine_octaves(&with, input, shifted.classes, octaves);
    free(memory);
    plan.bits = plain_bits;
    if (shifted_bits < plain_bits) {
        memcpy(frame->context, with.context, sizeof with.context);
        plan.bits = shifted_bits;
        plan.has_octaves = 1;
    }
    return plan;
}

typedef struct {
    double bits; /* to code the counted symbols by a table of their own */
    uint32_t count[ZD_SYMBOLS];
} cluster;

static double entropy(const uint32_t *count) {
    double bits = 0;
    uint64_t total = 0;
    for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
        total += count[k];
        bits -= zd_plogp(count[k]);
    }
    return bits + zd_plogp((double)total);
}

static double merged_cost(const cluster *a, const cluster *b) {
    uint32_t sum[ZD_SYMBOLS];
    for (unsigned k = 0; k < ZD_SYMBOLS; k++)
        sum[k] = a->count[k] + b->count[k];
    return entropy(sum) - a->bits - b->bits;
}

void zd_choose_tables(zd_frame *frame, uint32_t (*counts)[ZD_SYMBOLS]) {
    enum { TABLE_BITS = 100 };
    cluster clusters[ZD_CONTEXTS];
    double growth[ZD_CONTEXTS][ZD_CONTEXTS];
    uint8_t member[ZD_CONTEXTS];
    unsigned number = 0;
    for (unsigned c = 0; c < frame->contexts; c++) {
        uint32_t any = 0;
        for (unsigned k = 0; k < ZD_SYMBOLS; k++)
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
        if (number <= ZD_TABLES && growth[a][b] > TABLE_BITS)
            break;
        for (unsigned k = 0; k < ZD_SYMBOLS; k++)
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
        zd_normalise(clusters[k].count, frame->frequency[k]);
    for (unsigned c = 0; c < frame->contexts; c++)
        frame->context[c].table = member[c];
}
