/* What the parts of the bitx codec share.  The stream is specified in ../README.md. */
#ifndef ZF_BITX_H
#define ZF_BITX_H

#include "common.h"

enum {
    BX_SYMBOLS = 16,
    BX_TABLES = 8,
    BX_CONTEXTS = 16,
    BX_BLOCK = 64,         /* items that share a zero flag; a vector kernel's step */
    BX_SCALE_OFFSET = 128, /* items that share an scale_offset */
    BX_LANES = 64,
    BX_GROUP = 16, /* lanes that renormalise together */
    BX_PRECISION = 11,
    BX_SCALE = 1 << BX_PRECISION,
    BX_BUCKET = BX_SCALE / BX_SYMBOLS,
    BX_STEP_BITS = 5,   /* uncoded bits that fit into the step of a symbol */
    BX_EXTRA_BITS = 16, /* and into each step after it */
    BX_EXTRA_STEPS = 4, /* at most, with the 60 bits of the widest shift */
    BX_LITERAL = 0,     /* symbol: the residual follows as an item */
    BX_EXTENDED = 15,   /* symbol: the quotient follows as a byte; with a direct context, the item itself */
    BX_ZERO = 8,        /* symbol of the quotient 0 */
    BX_SCALE_OFFSET_BIAS = 10,
    BX_INTEGER_EXPONENT = 8, /* what stands for the base's exponent with integers */
    BX_FLAGS_NONE = 0,
    BX_FLAGS_MAP = 1,
    BX_FLAGS_RUNS = 2,
    BX_FLAGS_CODED = 3,
    BX_MODE_EQUAL = 0,
    BX_MODE_CODED = 1,
    BX_MODE_HALVES = 2, /* F32 by the upper halves of both sides, as BF16: what encoders before BX_MODE_NARROW made */
    BX_MODE_NARROW = 3  /* floats that a narrower type holds exactly: a payload of these, against the narrowed base */
};
#define BX_LOW 65536u /* smallest state */

typedef struct {
    uint8_t table;
    uint8_t shift;  /* uncoded low bits */
    uint8_t direct; /* the base is useless here: the item's own exponent is coded */
} bx_context;

/* Alias tables, entry 16 * table + bucket or symbol. */
typedef struct {
    uint16_t divider[BX_TABLES * BX_SYMBOLS];   /* slots of the bucket's own symbol; the other above */
    uint16_t frequency[BX_TABLES * BX_SYMBOLS]; /* by symbol */
    uint16_t offset[BX_TABLES * BX_SYMBOLS];    /* what the other symbol adds to the place in the bucket, mod 2^16 */
} bx_alias;

typedef struct {
    uint8_t layout;
    uint8_t item;     /* bytes */
    uint8_t mantissa; /* bits below the exponent */
    uint16_t exponent_mask;
    size_t items;
    size_t blocks;
    size_t scale_offsets;
    unsigned lanes;
    unsigned contexts;
    unsigned tables;
    unsigned extra_steps;
    unsigned lowest_exponent; /* that of context 0 without scale_offsets */
    unsigned top_exponent;    /* that of symbol 0 in direct contexts */
    int has_direct;
    bx_context context[BX_CONTEXTS];
    uint16_t frequency[BX_TABLES][BX_SYMBOLS];
    bx_alias alias;
} bx_frame;

/* Where a decoder stands in its three streams. */
typedef struct {
    const uint8_t *words;
    const uint8_t *extended_literals;
    const uint8_t *literals;
    uint32_t state[BX_LANES];
} bx_cursor;

/* Decodes `count` blocks; each takes at most 128 * (1 + extra_steps) bytes of words, 64 of extended literals and 64 items of
   literals, and 64 bytes behind each of these must be readable.  levels[k / 2] is the exponent of context 0 in
   block k. */
typedef void bx_kernel(const bx_frame *frame, const uint32_t *direct_table, const uint32_t *blocks, size_t count,
                       const uint16_t *levels, const uint8_t *base, uint8_t *out, bx_cursor *cursor);

bx_kernel bx_decode_portable;
#if ZF_X86
bx_kernel bx_decode_narrow_avx2; /* items of 1 and 2 bytes in 64 lanes */
bx_kernel bx_decode_wide_avx2;   /* items of 4 and 8 bytes in 64 lanes */
bx_kernel bx_decode_avx512;      /* items of 1, 2 and 4 bytes in 64 lanes */
#endif

/* One item in a context of a known kind. */
ZF_INLINE uint64_t bx_mask(unsigned bits) { return bits >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1; }

ZF_INLINE uint64_t bx_load(const uint8_t *p, unsigned item) {
    switch (item) {
    case 1: return *p;
    case 2: return zf_get16(p);
    case 4: return zf_get32(p);
    default: return zf_get64(p);
    }
}

ZF_INLINE void bx_store(uint8_t *p, uint64_t v, unsigned item) {
    switch (item) {
    case 1: *p = (uint8_t)v; break;
    case 2: zf_put16(p, (uint16_t)v); break;
    case 4: zf_put32(p, (uint32_t)v); break;
    default: zf_put64(p, v);
    }
}

/* Residual of `f` against `b` modulo 2^width: ordered, and turned so that away from zero is positive; see README.md. */
ZF_INLINE uint64_t bx_residual(uint64_t f, uint64_t b, unsigned item, int is_float) {
    const unsigned width = 8 * item;
    const uint64_t sign = (uint64_t)1 << (width - 1), all = bx_mask(width);
    if (!is_float)
        return (f - b) & all;
    uint64_t turned = f ^ (b & sign);
    uint64_t ordered = turned ^ (((turned >> (width - 1)) ? all : 0) >> 1);
    return (ordered - (b & (sign - 1))) & all;
}

ZF_INLINE uint64_t bx_restore(uint64_t d, uint64_t b, unsigned item, int is_float) {
    const unsigned width = 8 * item;
    const uint64_t sign = (uint64_t)1 << (width - 1), all = bx_mask(width);
    if (!is_float)
        return (b + d) & all;
    uint64_t ordered = ((b & (sign - 1)) + d) & all;
    return ordered ^ (((ordered >> (width - 1)) ? all : 0) >> 1) ^ (b & sign);
}

/* Item of the block that the `step`-th symbol of its 64 belongs to: narrow items take the even ones of each 32 first,
   which is how a vector of 32 narrow items falls apart into two of 32-bit lanes. */
ZF_INLINE unsigned bx_place(unsigned step, unsigned item) {
    return item > 2 ? step : (step & 32) | (step & 15) << 1 | (step >> 4 & 1);
}

ZF_INLINE unsigned bx_step_bits(unsigned shift) { return shift < BX_STEP_BITS ? shift : BX_STEP_BITS; }

ZF_INLINE unsigned bx_extra_bits(unsigned shift, unsigned extra_step) {
    unsigned done = BX_STEP_BITS + BX_EXTRA_BITS * extra_step;
    return shift <= done ? 0 : shift - done < BX_EXTRA_BITS ? shift - done : BX_EXTRA_BITS;
}

/* Sets what follows from the layout and the length. */
void bx_frame_init(bx_frame *frame, int layout, size_t items);

/* Alias tables of frame->frequency, whose rows must add up to BX_SCALE with no entry over BX_SCALE - 1.  If `slots` is
   given, slots[table][first slot of symbol + offset] is the slot of each symbol's offset. */
void bx_build_alias(bx_frame *frame, uint16_t (*slots)[BX_SCALE], uint16_t (*first)[BX_SYMBOLS]);

/* Entry table * BX_SCALE + slot. */
void bx_build_direct(const bx_frame *frame, uint32_t *direct_table);

/* An entry: bits 0-15 offset, 16-26 frequency, 27-31 the symbol less BX_ZERO, signed. */
ZF_INLINE uint32_t bx_entry_offset(uint32_t entry) { return entry & 0xFFFF; }
ZF_INLINE uint32_t bx_entry_frequency(uint32_t entry) { return entry >> 16 & (BX_SCALE - 1); }
ZF_INLINE int32_t bx_entry_quotient(uint32_t entry) { return (int32_t)entry >> 27; }

/* Frequencies that add up to BX_SCALE, at least 1 for every symbol that occurs and at most BX_SCALE - 1. */
void bx_normalise(const uint32_t *count, uint16_t *frequency);

/* Bits of a header, least significant first. */
typedef struct {
    uint8_t *bytes;
    size_t capacity;
    size_t position; /* in bits */
    int overrun;
} bx_bit_writer;

typedef struct {
    const uint8_t *bytes;
    size_t nbytes;
    size_t position; /* in bits */
    int overrun;
} bx_bit_reader;

void bx_put(bx_bit_writer *writer, uint64_t value, unsigned bits);
uint64_t bx_take(bx_bit_reader *reader, unsigned bits);
void bx_put_number(bx_bit_writer *writer, uint64_t value); /* 6 bits of length, then the bits */
uint64_t bx_take_number(bx_bit_reader *reader);
void bx_put_table(bx_bit_writer *writer, const uint16_t *frequency);
const char *bx_take_table(bx_bit_reader *reader, uint16_t *frequency);

/* A run of symbols below 16 by one table in 4 lanes; at most 72 + 2 * count bytes. */
size_t bx_encode_symbols(const uint8_t *symbols, size_t count, uint8_t *out);
const char *bx_decode_symbols(const uint8_t **cursor, const uint8_t *end, uint8_t *symbols, size_t count);

#endif
