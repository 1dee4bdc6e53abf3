/* Which scale_offset each 128 items get: at first by the size of their residuals, then by what they would take. */
#include "bitx_model.h"

/* log2 in sixteenths, to within one of them. */
static int log2_16(uint64_t v) {
    int top = 63 - __builtin_clzll(v);
    uint64_t next = top >= 4 ? v >> (top - 4) : v << (4 - top);
    return 16 * top + (int)(next & 15);
}

void bx_guess_scale_offsets(const bx_frame *frame, const uint64_t *magnitudes, uint8_t *scale_offsets) {
    int64_t sum = 0, nonzero = 0;
    for (size_t k = 0; k < frame->scale_offsets; k++)
        if (magnitudes[k]) {
            sum += log2_16(magnitudes[k]);
            nonzero++;
        }
    const int mean = nonzero ? (int)(sum / nonzero) : 0;
    for (size_t k = 0; k < frame->scale_offsets; k++) {
        if (!magnitudes[k]) {
            scale_offsets[k] = 0;
            continue;
        }
        int off = log2_16(magnitudes[k]) - mean + 8 + 16 * 64; /* rounds downwards below */
        off = off / 16 - 64;
        off = off < -4 ? -4 : off > 4 ? 4 : off;
        scale_offsets[k] = (uint8_t)(off + BX_SCALE_OFFSET_BIAS);
    }
}

double bx_scale_offset_bits(const bx_input *input, const uint8_t *scale_offsets) {
    uint32_t counts[BX_SYMBOLS] = {0}, present = 0;
    for (size_t n = 0; n < input->listed; n++)
        if (n == 0 || input->blocks[n] / 2 != input->blocks[n - 1] / 2) {
            counts[scale_offsets[input->blocks[n] / 2]]++;
            present++;
        }
    double bits = bx_plogp(present) + 300;
    for (unsigned k = 0; k < BX_SYMBOLS; k++)
        bits -= bx_plogp(counts[k]);
    return bits;
}

enum {
    CLASSES = 16, /* the last one for all that are longer */
    COMPARED = 8, /* levels: the sums of all of them are one vector of words */
    BELOW = 4,    /* of which so many are below the present one */
    HEIGHTS = BX_CONTEXTS + COMPARED - 1,
    MOST_PRICE = UINT16_MAX / BX_SCALE_OFFSET
};

/* 32nds of a bit, and at most what a sum of an scale_offset's items can hold. */
static uint16_t price_of(double bits) { return (uint16_t)(32 * bits < MOST_PRICE ? 32 * bits + 0.5 : MOST_PRICE); }

/* Bits of a symbol; what was not seen is not impossible. */
static double symbol_bits(double count, double total) { return log2(total + 16) - log2(count + 0.25); }

/* By the same reckoning as that of shifts in bitx_model.c, but for each class. */
static void price_context(const bx_frame *frame, const uint32_t *classes, const bx_context *context, uint16_t *prices) {
    const unsigned width = 8u * frame->item, shift = context->shift;
    double total = 0, core = 0, is_extended = 0, is_literal = 0;
    for (unsigned k = 0; k <= width; k++) {
        total += classes[k];
        core += k <= shift ? classes[k] : 0;
        is_extended += k > shift + 3 && k <= shift + 7 ? classes[k] : 0;
        is_literal += k > shift + 7 ? classes[k] : 0;
    }
    const double below = shift ? (core - classes[0]) / 2 : 0, zero = core - below;
    for (unsigned k = 0; k < CLASSES; k++) {
        if (context->direct)
            prices[k] = price_of(frame->mantissa + 3);
        else if (k <= shift && k)
            prices[k] = price_of(shift + (symbol_bits(zero, total) + symbol_bits(below, total)) / 2);
        else if (k <= shift)
            prices[k] = price_of(shift + symbol_bits(zero, total));
        else if (k <= shift + 3)
            prices[k] = price_of(shift + symbol_bits(classes[k] / (double)(1 << (k - shift)), total));
        else if (k <= shift + 7)
            prices[k] = price_of(shift + 8 + symbol_bits(is_extended, total));
        else
            prices[k] = price_of(width + symbol_bits(is_literal, total));
    }
}

/* The context of an exponent that is `height` above the lowest level, at a level that is `level` above it. */
static unsigned context_of(unsigned height, unsigned level) {
    const unsigned above = height > level ? height - level : 0;
    return above < BX_CONTEXTS ? above : BX_CONTEXTS - 1;
}

typedef uint16_t words __attribute__((vector_size(2 * COMPARED)));

typedef struct {
    words items[HEIGHTS * CLASSES]; /* for each level */
    uint32_t scale_offsets[BX_SYMBOLS];
} price_list;

static void make_prices(const bx_frame *frame, uint32_t (*classes)[BX_CLASSES], const uint32_t *scale_offsets,
                        price_list *to) {
    uint16_t of_context[BX_CONTEXTS][CLASSES];
    uint32_t total = 0;
    for (unsigned c = 0; c < BX_CONTEXTS; c++)
        price_context(frame, classes[c], &frame->context[c], of_context[c]);
    for (unsigned k = 0; k < HEIGHTS * CLASSES; k++)
        for (unsigned level = 0; level < COMPARED; level++)
            to->items[k][level] = of_context[context_of(k / CLASSES, level)][k % CLASSES];
    for (unsigned k = 0; k < BX_SYMBOLS; k++)
        total += scale_offsets[k];
    for (unsigned k = 0; k < BX_SYMBOLS; k++)
        to->scale_offsets[k] = price_of(symbol_bits(scale_offsets[k], total));
}

/* The blocks of an scale_offset: `count` of the listed ones from `first` on, of which `whole` are whole. */
typedef struct {
    size_t first, count, whole, scale_offset;
} group;

static group next_group(const bx_frame *frame, const bx_input *input, size_t first) {
    group it = {first, 1, 0, input->blocks[first] / 2};
    it.count += first + 1 < input->listed && input->blocks[first + 1] / 2 == it.scale_offset;
    it.whole = it.count - (((size_t)input->blocks[first + it.count - 1] + 1) * BX_BLOCK > frame->items);
    return it;
}

/* Where the items of a block stand in the price list.  A loop for each width, which compilers turn into vectors. */
ZF_INLINE void find_places(const bx_frame *frame, const uint8_t *raw, const uint8_t *base, unsigned lowest,
                           uint16_t *places, const int is_float) {
    const uint16_t mask = frame->exponent_mask, level = (uint16_t)lowest;
    const unsigned mantissa = frame->mantissa;
    uint16_t sizes[BX_BLOCK], heights[BX_BLOCK], classes[BX_BLOCK];
    for (unsigned k = 0; k < BX_BLOCK; k++) {
        const uint16_t f = zf_get16(raw + 2 * k), b = zf_get16(base + 2 * k);
        const uint16_t turn = is_float ? b & 0x8000 : 0, turned = f ^ turn;
        const uint16_t fold = is_float ? (uint16_t)((int16_t)turned >> 15) >> 1 : 0;
        const uint16_t d = (uint16_t)((turned ^ fold) - (b ^ turn)), negative = (uint16_t)((int16_t)d >> 15);
        sizes[k] = (uint16_t)((d ^ negative) - negative);
        const uint16_t exponent = is_float ? (uint16_t)(b >> mantissa) & mask : BX_INTEGER_EXPONENT;
        const uint16_t above = exponent > level ? (uint16_t)(exponent - level) : 0;
        heights[k] = above < HEIGHTS - 1 ? above : HEIGHTS - 1;
    }
    for (unsigned k = 0; k < BX_BLOCK; k++) { /* the exponent of a float is the bit length */
        const float size = (float)(int32_t)sizes[k];
        int32_t bits;
        memcpy(&bits, &size, sizeof bits);
        const int32_t class = (bits >> 23) - 126;
        classes[k] = (uint16_t)(class < 0 ? 0 : class < CLASSES ? class : CLASSES - 1);
    }
    for (unsigned k = 0; k < BX_BLOCK; k++)
        places[k] = (uint16_t)(heights[k] * CLASSES + classes[k]);
}

ZF_INLINE void find_all(const bx_frame *frame, const bx_input *input, const group *it, unsigned lowest,
                        uint16_t places[BX_SCALE_OFFSET]) {
    for (size_t n = 0; n < it->whole; n++) {
        const size_t at = (size_t)input->blocks[it->first + n] * BX_BLOCK * 2;
        if (frame->exponent_mask)
            find_places(frame, input->raw + at, input->base + at, lowest, places + n * BX_BLOCK, 1);
        else
            find_places(frame, input->raw + at, input->base + at, lowest, places + n * BX_BLOCK, 0);
    }
}

typedef void find_group(const bx_frame *frame, const bx_input *input, const group *it, unsigned lowest,
                        uint16_t places[BX_SCALE_OFFSET]);

static ZF_NOINLINE void find_portable(const bx_frame *frame, const bx_input *input, const group *it, unsigned lowest,
                                      uint16_t places[BX_SCALE_OFFSET]) {
    find_all(frame, input, it, lowest, places);
}

#if ZF_X86
static ZF_NOINLINE ZF_TARGET_AVX2 void find_avx2(const bx_frame *frame, const bx_input *input, const group *it,
                                                 unsigned lowest, uint16_t places[BX_SCALE_OFFSET]) {
    find_all(frame, input, it, lowest, places);
}

static ZF_NOINLINE ZF_TARGET_AVX512 void find_avx512(const bx_frame *frame, const bx_input *input, const group *it,
                                                     unsigned lowest, uint16_t places[BX_SCALE_OFFSET]) {
    find_all(frame, input, it, lowest, places);
}
#endif

/* The cheapest scale_offset for items at these places. */
static unsigned cheapest(const price_list *prices, const uint16_t *places, unsigned count, unsigned now) {
    words sums = {0}, odd = {0}; /* one sum would wait for itself */
    for (unsigned k = 0; k < count; k += 2) {
        sums += prices->items[places[k]];
        odd += prices->items[places[k + 1]];
    }
    sums += odd;
    unsigned best = now;
    uint32_t least = sums[BELOW] + prices->scale_offsets[now];
    for (unsigned level = 0; level < COMPARED; level++) {
        const unsigned scale_offset = now + level - BELOW;
        if (scale_offset < BX_SYMBOLS && sums[level] + prices->scale_offsets[scale_offset] < least) {
            least = sums[level] + prices->scale_offsets[scale_offset];
            best = scale_offset;
        }
    }
    return best;
}

enum { EVERY = 8 };

/* One group in `EVERY` first: enough to count again, by the scale_offsets that are found, for the prices of all. */
void bx_refine_scale_offsets(const bx_frame *frame, const bx_input *input, uint32_t (*classes)[BX_CLASSES],
                             uint8_t *scale_offsets) {
    uint32_t counts[BX_SYMBOLS] = {0}, found[BX_SYMBOLS] = {0}, found_classes[BX_CONTEXTS][BX_CLASSES];
    uint16_t places[BX_SCALE_OFFSET];
    price_list prices;
    group it;
    find_group *find_by = find_portable;
#if ZF_X86
    if (zf_isa() >= ZF_AVX2)
        find_by = zf_isa() == ZF_AVX512 ? find_avx512 : find_avx2;
#endif
    memset(found_classes, 0, sizeof found_classes);
    for (size_t n = 0; n < input->listed; n += it.count) {
        it = next_group(frame, input, n);
        counts[scale_offsets[it.scale_offset]]++;
    }
    make_prices(frame, classes, counts, &prices);
    for (int is_sample = 1; is_sample >= 0; is_sample--) {
        size_t turn = 0;
        for (size_t n = 0; n < input->listed; n += it.count, turn++) {
            it = next_group(frame, input, n);
            uint8_t *scale_offset = &scale_offsets[it.scale_offset];
            const int lowest = (int)frame->lowest_exponent + *scale_offset - BX_SCALE_OFFSET_BIAS - BELOW;
            if (lowest < 0 || (is_sample && turn % EVERY))
                continue;
            const unsigned count = (unsigned)it.whole * BX_BLOCK;
            find_by(frame, input, &it, (unsigned)lowest, places);
            const unsigned best = cheapest(&prices, places, count, *scale_offset);
            if (!is_sample) {
                *scale_offset = (uint8_t)best;
                continue;
            }
            found[best]++;
            for (unsigned k = 0; k < count; k++)
                found_classes[context_of(places[k] / CLASSES, best + BELOW - *scale_offset)][places[k] % CLASSES]++;
        }
        if (is_sample)
            make_prices(frame, found_classes, found, &prices);
    }
}
