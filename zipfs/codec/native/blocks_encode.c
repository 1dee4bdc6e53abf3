/* The encoder of the codec for blocks.  zipfs/codec/README.md specifies every byte.

   Classes are octiles of the keys, or as many of them together as the tables of more would cost more than they save. */
#include <math.h>
#include <stdlib.h>

#include "blocks.h"
#include "standalone.h"

enum { KEYS = 1 << 16, TABLE_NBYTES = 60 /* of few lengths, and what a section has besides */ };

/* Everything that is coded, in one allocation. */
typedef struct {
    uint8_t *room, *codes, *classes, *sorted, *high, *low;
    uint16_t *keys;
    uint8_t *fields[BL_MOST_FIELDS];
} areas;

/* Where the payload is written. */
typedef struct {
    uint8_t *at, *end;
} target;

static int take_areas(areas *it, const bl_type *type, size_t n) {
    const size_t units = n * type->units, codes = units * type->unit_nbytes, halves = BL_PEAK_LOW * n;
    size_t fields_nbytes = 0;
    for (int k = 0; k < BL_MOST_FIELDS; k++)
        fields_nbytes += n * bl_field_nbytes(type->fields[k]);
    it->room = malloc(2 * units + fields_nbytes + units + 2 * codes + 1);
    if (it->room == NULL)
        return 0;
    it->keys = (uint16_t *)(void *)it->room;
    it->fields[0] = it->room + 2 * units;
    for (int k = 1; k < BL_MOST_FIELDS; k++)
        it->fields[k] = it->fields[k - 1] + n * bl_field_nbytes(type->fields[k - 1]);
    it->classes = it->room + 2 * units + fields_nbytes;
    it->codes = it->classes + units;
    it->sorted = it->codes + codes;
    it->high = it->codes;
    it->low = it->codes + halves;
    return 1;
}

/* 0, or 1 if it does not fit. */
static int put_items(target *to, const uint8_t *items, size_t n, int layout) {
    size_t used, zeros;
    if (sa_encode_items(items, n, layout, SIZE_MAX, to->at, (size_t)(to->end - to->at), &used, &zeros))
        return 1;
    to->at += used;
    return 0;
}

/* The bits that bytes which occur so often take in a class of their own. */
static double cost_of(const uint32_t counts[256]) {
    double bits = 0, all = 0;
    int distinct = 0;
    for (int k = 0; k < 256; k++)
        if (counts[k]) {
            const double count = counts[k];
            bits -= count * log2(count);
            all += count;
            distinct++;
        }
    return all > 0 ? bits + all * log2(all) + 8 * TABLE_NBYTES + 2 * distinct : 0;
}

/* Thresholds between octiles of the keys; 0 if there is no memory. */
static int find_octiles(const uint16_t *keys, size_t units, uint16_t thresholds[BL_MOST_CLASSES - 1]) {
    uint32_t *counts = calloc(KEYS, sizeof *counts);
    if (counts == NULL)
        return 0;
    for (size_t unit = 0; unit < units; unit++)
        counts[keys[unit]]++;
    size_t below = 0;
    int next = 1;
    for (int key = 0; key < KEYS && next < BL_MOST_CLASSES; key++) {
        while (next < BL_MOST_CLASSES && below + counts[key] > units * (size_t)next / BL_MOST_CLASSES)
            thresholds[next++ - 1] = (uint16_t)key;
        below += counts[key];
    }
    free(counts);
    return next == BL_MOST_CLASSES;
}

/* How many classes are to be, and their thresholds; the classes are those of octiles before it, and then these.  0 if there
   is no memory. */
static int choose_classes(areas *it, const bl_type *type, size_t n, size_t nbytes, size_t stride,
                          uint16_t thresholds[BL_MOST_CLASSES - 1]) {
    const size_t units = n * type->units;
    uint32_t counts[BL_MOST_CLASSES][256];
    double least = 0;
    int best = 1;
    memset(it->classes, 0, units);
    if (type->key == BL_KEY_NONE)
        return 1;
    bl_make_keys(type, it->fields, n, it->keys);
    if (!find_octiles(it->keys, units, thresholds))
        return 0;
    bl_make_classes(it->keys, units, thresholds, BL_MOST_CLASSES - 1, it->classes);
    memset(counts, 0, sizeof counts);
    for (size_t unit = 0; unit < units; unit++) {
        uint32_t *of_class = counts[it->classes[unit]];
        for (size_t k = 0; k < nbytes; k++)
            of_class[it->codes[unit * stride + k]]++;
    }
    for (int classes = BL_MOST_CLASSES; classes > 0; classes /= 2) {
        double bits = 0;
        for (int k = 0; k < classes; k++)
            bits += cost_of(counts[k]);
        if (classes == BL_MOST_CLASSES || bits <= least) {
            least = bits;
            best = classes;
        }
        for (int k = 0; k < classes / 2; k++)
            for (int byte = 0; byte < 256; byte++)
                counts[k][byte] = counts[2 * k][byte] + counts[2 * k + 1][byte];
    }
    const int joined = BL_MOST_CLASSES / best;
    for (int k = 1; k < best; k++)
        thresholds[k - 1] = thresholds[joined * k - 1];
    for (size_t unit = 0; unit < units; unit++)
        it->classes[unit] = (uint8_t)(it->classes[unit] / joined);
    return best;
}

/* 0, or 1 if it does not fit or there is no memory. */
static int put_classes(areas *it, const bl_type *type, size_t n, int peaks_out, target *to) {
    const size_t units = n * type->units, stride = peaks_out ? BL_PEAK_CLASSED + 1 : type->unit_nbytes,
                 nbytes = peaks_out ? BL_PEAK_CLASSED : type->unit_nbytes;
    uint16_t thresholds[BL_MOST_CLASSES - 1];
    size_t counts[BL_MOST_CLASSES] = {0};
    const int classes = choose_classes(it, type, n, nbytes, stride, thresholds);
    if (!classes || (size_t)(to->end - to->at) < 1 + 2 * (size_t)(classes - 1))
        return 1;
    *to->at++ = (uint8_t)(classes | (peaks_out ? BL_PEAKS_OUT : 0));
    for (int k = 0; k < classes - 1; k++, to->at += 2)
        zf_put16(to->at, thresholds[k]);
    for (size_t unit = 0; unit < units; unit++)
        counts[it->classes[unit]]++;
    uint8_t *runs[BL_MOST_CLASSES], *next = it->sorted;
    for (int k = 0; k < classes; k++) {
        runs[k] = next;
        next += counts[k] * nbytes;
    }
    bl_scatter(it->classes, units, nbytes, stride, it->codes, runs);
    int failed = 0;
    for (int k = 0; !failed && k < classes; k++)
        if (counts[k])
            failed = put_items(to, runs[k] - counts[k] * nbytes, counts[k] * nbytes, ZF_I8);
    return failed;
}

static int put_codes(areas *it, const bl_type *type, const uint8_t *raw, size_t n, target *to) {
    const int peaks_out = type->codes == BL_EIGHT_BITS && bl_split_peaks(type, raw, n, it->high, it->low);
    if (!peaks_out)
        bl_split_codes(type, raw, n, it->codes);
    if (put_classes(it, type, n, peaks_out, to))
        return 1;
    if (!peaks_out)
        return 0;
    for (size_t k = 0; k < n; k++)
        it->sorted[k] = it->high[(BL_PEAK_CLASSED + 1) * k + BL_PEAK_CLASSED];
    return put_items(to, it->sorted, n, ZF_I8) || put_items(to, it->low, BL_PEAK_LOW * n, ZF_I8);
}

int zf_blocks_encode(const uint8_t *raw, size_t nbytes, int code, uint8_t *out, size_t capacity, size_t *used) {
    const bl_type *type = &bl_types[code];
    const size_t n = nbytes / type->nbytes, tail = nbytes % type->nbytes;
    areas it;
    if (!n || nbytes > UINT32_MAX || capacity < 1 + tail || !take_areas(&it, type, n))
        return 1;
    target to = {out + 1, out + capacity - tail};
    int failed = 0;
    out[0] = (uint8_t)code;
    for (int k = 0; !failed && k < BL_MOST_FIELDS && type->fields[k].count; k++) {
        const bl_field field = type->fields[k];
        bl_split_field(type, field, raw, n, it.fields[k]);
        failed = put_items(&to, it.fields[k], n * field.count, bl_field_layout(field));
    }
    if (!failed && type->codes != BL_NO_CODES)
        failed = put_codes(&it, type, raw, n, &to);
    free(it.room);
    if (failed)
        return 1;
    if (tail)
        memcpy(to.at, raw + nbytes - tail, tail);
    *used = (size_t)(to.at - out) + tail;
    return 0;
}
