/* Payloads of blocks that are right, of any mode that the stream allows, not only of those that the encoder would choose. */
#include <stdlib.h>

#include "blocks.h"
#include "dispatch.h"
#include "fuzz_input.h"
#include "standalone.h"

enum { ROOM = 1 << 22 };

static uint8_t *allocate(size_t nbytes) {
    uint8_t *room = malloc(nbytes + 1);
    if (room == NULL)
        abort();
    return room;
}

static size_t blocks_of_input(fuzz_random *random, size_t nbytes) {
    const size_t most = FUZZ_MOST_NBYTES / nbytes - 1;
    size_t n = 1 + fuzz_below(random, fuzz_below(random, 4) ? 20 : 300);
    if (!fuzz_below(random, 60))
        n = 5000 + fuzz_below(random, 4000);
    return n < most ? n : most;
}

/* Items of which it is known what they decode to. */
static uint8_t *put_known(fuzz_random *random, size_t n, int layout, uint8_t *items, uint8_t *to) {
    uint8_t *end = fuzz_put_items(random, n, zf_layouts[layout].nbytes, NULL, to);
    const uint8_t *at = to;
    zf_dispatch_override(0);
    if (sa_decode_items(&at, end, n, layout, items) != NULL)
        abort();
    return end;
}

static uint8_t *put_classes(fuzz_random *random, const bl_type *type, uint8_t *const fields[BL_MOST_FIELDS], size_t n,
                            uint8_t *to) {
    const size_t units = n * type->units;
    const int peaks_out = type->codes == BL_EIGHT_BITS && fuzz_below(random, 3);
    const size_t nbytes = peaks_out ? BL_PEAK_CLASSED : type->unit_nbytes;
    const int classes = 1 + (int)fuzz_below(random, BL_MOST_CLASSES);
    uint16_t *keys = (uint16_t *)(void *)allocate(2 * units), thresholds[BL_MOST_CLASSES];
    uint8_t *class_of = allocate(units);
    size_t counts[BL_MOST_CLASSES] = {0};
    bl_make_keys(type, fields, n, keys);
    *to++ = (uint8_t)(classes | (peaks_out ? BL_PEAKS_OUT : 0));
    for (int k = 0; k < classes - 1; k++, to += 2) {
        const size_t near = fuzz_below(random, 3);
        thresholds[k] = near ? (uint16_t)(keys[fuzz_below(random, units)] + near - 1) : (uint16_t)fuzz_bits(random);
        zf_put16(to, thresholds[k]);
    }
    bl_make_classes(keys, units, thresholds, classes - 1, class_of);
    for (size_t unit = 0; unit < units; unit++)
        counts[class_of[unit]]++;
    for (int k = 0; k < classes; k++)
        if (counts[k])
            to = fuzz_put_items(random, counts[k] * nbytes, 1, NULL, to);
    if (peaks_out) {
        to = fuzz_put_items(random, n, 1, NULL, to);
        to = fuzz_put_items(random, BL_PEAK_LOW * n, 1, NULL, to);
    }
    free(class_of);
    free(keys);
    return to;
}

static uint8_t *put_blocks(fuzz_random *random, const bl_type *type, size_t n, uint8_t *to) {
    uint8_t *fields[BL_MOST_FIELDS] = {NULL};
    for (int k = 0; k < BL_MOST_FIELDS && type->fields[k].count; k++) {
        fields[k] = allocate(n * bl_field_nbytes(type->fields[k]));
        to = put_known(random, n * type->fields[k].count, bl_field_layout(type->fields[k]), fields[k], to);
    }
    if (type->codes != BL_NO_CODES)
        to = put_classes(random, type, fields, n, to);
    for (int k = 0; k < BL_MOST_FIELDS; k++)
        free(fields[k]);
    return to;
}

static uint8_t *put_encoded(fuzz_random *random, int code, size_t nbytes, uint8_t *to) {
    uint8_t *raw = allocate(nbytes);
    size_t used = 0;
    const int even = (int)fuzz_below(random, 5), odd = (int)fuzz_below(random, 5), peaks = (int)fuzz_below(random, 2);
    for (size_t k = 0; k < nbytes; k++)
        raw[k] = fuzz_skewed(random, k % 2 ? odd : even);
    for (size_t k = fuzz_below(random, 32); peaks && k < nbytes; k += 1 + fuzz_below(random, 16))
        raw[k] = fuzz_below(random, 2) ? 127 : 129;
    zf_dispatch_override((int)fuzz_below(random, (size_t)zf_dispatch_best() + 1));
    const int failed = zf_blocks_encode(raw, nbytes, code, to, 2 * nbytes + 4000, &used);
    free(raw);
    return failed ? NULL : to + used;
}

size_t fuzz_make_blocks(fuzz_random *random, uint8_t *data, size_t most) {
    const int code = 1 + (int)fuzz_below(random, ZF_BLOCK_TYPES - 1);
    const bl_type *type = &bl_types[code];
    const size_t n = blocks_of_input(random, type->nbytes), tail = fuzz_below(random, type->nbytes);
    uint8_t *made = allocate(ROOM), *to = made + FUZZ_HEAD;
    const fuzz_head head = {FUZZ_BLOCKS, 0, n * type->nbytes + tail, 0};
    fuzz_put_head(made, head);
    if (!fuzz_below(random, 3)) {
        to = put_encoded(random, code, head.nbytes, to);
    } else {
        *to++ = (uint8_t)code;
        to = put_blocks(random, type, n, to);
        for (size_t k = 0; k < tail; k++)
            *to++ = (uint8_t)k;
    }
    const size_t size = to != NULL && (size_t)(to - made) <= most ? (size_t)(to - made) : 0;
    memcpy(data, made, size);
    free(made);
    return size;
}
