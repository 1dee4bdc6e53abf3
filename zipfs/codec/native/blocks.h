/* Blocks of GGML taken apart into fields, and their codes into units of which each has a class.

   A block is `nbytes` bytes: plain fields, packed scales, and codes.  A field becomes an array of items over all blocks.
   Codes become bytes, unit by unit: a unit is what shares a scale.  The key of a unit follows from the fields; codes
   of units with like keys are coded by one table. */
#ifndef ZF_BLOCKS_H
#define ZF_BLOCKS_H

#include "common.h"

enum {
    BL_MOST_FIELDS = 5,
    BL_MOST_CLASSES = 8,
    BL_PADDING = 32,   /* bytes behind a buffer that may be read or written along with the last ones */
    BL_CHUNK = 1 << 15 /* bytes of blocks that are put together at once: they stay in the level 1 and 2 caches */
};

/* Kinds of fields: a layout of items that stand as they are, or packed scales that become bytes. */
enum { BL_SCALES_K4 = 16, BL_SCALES_K3 = 17, BL_SCALES_XS = 18 };

/* How codes are stored. */
enum { BL_NO_CODES = 0, BL_BYTES, BL_K2, BL_K3, BL_K4, BL_HIGH_BITS, BL_K5, BL_K6, BL_EIGHT_BITS };

/* What the key of a unit is made of: see bl_make_keys. */
enum {
    BL_KEY_NONE = 0,
    BL_KEY_D,
    BL_KEY_BYTE,
    BL_KEY_SIGNED,
    BL_KEY_OFF_32,
    BL_KEY_RATIO,
    BL_KEY_RATIO_K2,
    BL_KEY_RATIO_K4
};

/* What stands with the number of classes. */
enum { BL_CLASSES_MASK = 15, BL_PEAKS_OUT = 0x10 };

/* Codes with the peaks out: of each block 15 bytes in a class, one beside them, and 16 of low bits. */
enum { BL_PEAK_CLASSED = 15, BL_PEAK_LOW = 16 };

typedef struct {
    uint8_t kind, count;
    uint16_t at;
} bl_field;

typedef struct {
    uint16_t nbytes;
    uint8_t codes, key, units, unit_nbytes; /* units of a block */
    uint8_t at, high_at;                    /* of the codes, and of their high bits */
    bl_field fields[BL_MOST_FIELDS];        /* up to the first without items */
} bl_type;

/* By the code that stands in payloads; 0 is none. */
extern const bl_type bl_types[ZF_BLOCK_TYPES];

ZF_INLINE int bl_field_layout(bl_field field) { return field.kind < ZF_LAYOUTS ? field.kind : ZF_I8; }
ZF_INLINE size_t bl_field_nbytes(bl_field field) {
    return (size_t)field.count * zf_layouts[bl_field_layout(field)].nbytes;
}

/* A field of n blocks to its array and back. */
void bl_split_field(const bl_type *type, bl_field field, const uint8_t *blocks, size_t n, uint8_t *items);
void bl_merge_field(const bl_type *type, bl_field field, const uint8_t *items, size_t n, uint8_t *blocks);

/* The codes of n blocks to their units and back. */
void bl_split_codes(const bl_type *type, const uint8_t *blocks, size_t n, uint8_t *units);
void bl_merge_codes(const bl_type *type, const uint8_t *units, size_t n, uint8_t *blocks);

/* Codes of 8 bits with one peak of each block taken out; bl_split_peaks gives 0 if a block has none.  `high` has 16 bytes
   of each block, `low` too. */
int bl_split_peaks(const bl_type *type, const uint8_t *blocks, size_t n, uint8_t *high, uint8_t *low);
void bl_merge_peaks(const bl_type *type, const uint8_t *high, const uint8_t *low, size_t n, uint8_t *blocks);

/* The keys of all units of n blocks, from the arrays of the fields. */
void bl_make_keys(const bl_type *type, uint8_t *const fields[BL_MOST_FIELDS], size_t n, uint16_t *keys);
/* The class of a unit is how many of `more` thresholds its key reaches. */
void bl_make_classes(const uint16_t *keys, size_t units, const uint16_t *thresholds, int more, uint8_t *classes);

/* `units` units of `nbytes` bytes each, `stride` bytes apart, from the runs of their classes, which move on, or to them. */
void bl_gather(const uint8_t *classes, size_t units, size_t nbytes, size_t stride, uint8_t *runs[BL_MOST_CLASSES],
               uint8_t *out);
void bl_scatter(const uint8_t *classes, size_t units, size_t nbytes, size_t stride, const uint8_t *in,
                uint8_t *runs[BL_MOST_CLASSES]);

#endif
