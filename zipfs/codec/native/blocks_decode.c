/* The decoder of the codec for blocks, which trusts no byte: all lengths follow from how many blocks there are and from the
   fields, which are decoded first; whatever they are, the units of all classes together are those of the blocks.
   zipfs/codec/README.md specifies every byte. */
#include <stdlib.h>

#include "blocks.h"
#include "standalone.h"

/* Where everything of a payload is while it is decoded, in one allocation. */
typedef struct {
    uint8_t *room, *fields[BL_MOST_FIELDS], *classes, *codes, *beside, *low, *chunk;
    uint16_t *keys;
    size_t chunk_blocks;
} areas;

static uint8_t *take(uint8_t **room, size_t nbytes) {
    uint8_t *taken = *room;
    *room += nbytes;
    return taken;
}

static int take_areas(areas *it, const bl_type *type, size_t n) {
    const size_t units = n * type->units, codes = units * type->unit_nbytes;
    size_t fields_nbytes = 0;
    for (int k = 0; k < BL_MOST_FIELDS; k++)
        fields_nbytes += n * bl_field_nbytes(type->fields[k]);
    it->chunk_blocks = BL_CHUNK / type->nbytes;
    const size_t chunk = it->chunk_blocks * type->units * type->unit_nbytes;
    it->room = malloc(units * sizeof *it->keys + fields_nbytes + units + codes + chunk + 3 * BL_PADDING);
    if (it->room == NULL)
        return 0;
    uint8_t *room = it->room;
    it->keys = (uint16_t *)(void *)take(&room, units * sizeof *it->keys);
    for (int k = 0; k < BL_MOST_FIELDS; k++)
        it->fields[k] = take(&room, n * bl_field_nbytes(type->fields[k]));
    it->classes = take(&room, units);
    it->codes = take(&room, codes + BL_PADDING);
    it->chunk = take(&room, chunk + BL_PADDING);
    /* Codes with the peaks out take as many bytes as codes: 15, 1 and 16 of each block. */
    it->beside = it->codes + BL_PEAK_CLASSED * n;
    it->low = it->beside + n;
    return 1;
}

/* The classes of all units: their runs in `runs`, behind each other in `codes`. */
static const char *decode_classes(areas *it, const bl_type *type, size_t n, const uint8_t **at, const uint8_t *end,
                                  int classes, size_t unit_nbytes, uint8_t *runs[BL_MOST_CLASSES]) {
    const size_t units = n * type->units;
    uint16_t thresholds[BL_MOST_CLASSES];
    size_t counts[BL_MOST_CLASSES] = {0};
    if (classes < 1 || classes > BL_MOST_CLASSES)
        return "there are no or too many classes";
    if ((size_t)(end - *at) < 2 * (size_t)(classes - 1))
        return "the payload is cut short";
    for (int k = 0; k < classes - 1; k++, *at += 2)
        thresholds[k] = zf_get16(*at);
    if (classes > 1)
        bl_make_keys(type, it->fields, n, it->keys);
    bl_make_classes(it->keys, units, thresholds, classes - 1, it->classes);
    for (size_t unit = 0; unit < units; unit++)
        counts[it->classes[unit]]++;
    uint8_t *next = it->codes;
    for (int k = 0; k < classes; k++) {
        const size_t nbytes = counts[k] * unit_nbytes;
        const char *wrong = nbytes ? sa_decode_items(at, end, nbytes, ZF_I8, next) : NULL;
        if (wrong != NULL)
            return wrong;
        runs[k] = next;
        next += nbytes;
    }
    return NULL;
}

static const char *decode_all(areas *it, const bl_type *type, size_t n, const uint8_t **at, const uint8_t *end,
                              uint8_t *runs[BL_MOST_CLASSES], int *peaks_out) {
    const char *wrong = NULL;
    for (int k = 0; wrong == NULL && k < BL_MOST_FIELDS && type->fields[k].count; k++)
        wrong = sa_decode_items(at, end, n * type->fields[k].count, bl_field_layout(type->fields[k]), it->fields[k]);
    if (wrong != NULL || type->codes == BL_NO_CODES)
        return wrong;
    if (*at == end)
        return "the payload is cut short";
    const uint8_t head = *(*at)++;
    *peaks_out = (head & BL_PEAKS_OUT) != 0;
    if ((head & ~(BL_CLASSES_MASK | BL_PEAKS_OUT)) || (*peaks_out && type->codes != BL_EIGHT_BITS))
        return "unknown mode of codes";
    wrong = decode_classes(it, type, n, at, end, head &BL_CLASSES_MASK,
                           *peaks_out ? BL_PEAK_CLASSED : type->unit_nbytes, runs);
    if (wrong == NULL && *peaks_out)
        wrong = sa_decode_items(at, end, n, ZF_I8, it->beside);
    if (wrong == NULL && *peaks_out)
        wrong = sa_decode_items(at, end, BL_PEAK_LOW * n, ZF_I8, it->low);
    return wrong;
}

static void put_together(areas *it, const bl_type *type, size_t n, uint8_t *runs[BL_MOST_CLASSES], int peaks_out,
                         uint8_t *out) {
    for (size_t from = 0; from < n; from += it->chunk_blocks) {
        const size_t here = n - from < it->chunk_blocks ? n - from : it->chunk_blocks, first = from * type->units;
        uint8_t *blocks = out + from * type->nbytes;
        if (peaks_out) {
            bl_gather(it->classes + first, here, BL_PEAK_CLASSED, BL_PEAK_CLASSED + 1, runs, it->chunk);
            for (size_t k = 0; k < here; k++)
                it->chunk[(BL_PEAK_CLASSED + 1) * k + BL_PEAK_CLASSED] = it->beside[from + k];
            bl_merge_peaks(type, it->chunk, it->low + BL_PEAK_LOW * from, here, blocks);
        } else if (type->codes != BL_NO_CODES) {
            bl_gather(it->classes + first, here * type->units, type->unit_nbytes, type->unit_nbytes, runs, it->chunk);
            bl_merge_codes(type, it->chunk, here, blocks);
        }
        for (int k = 0; k < BL_MOST_FIELDS && type->fields[k].count; k++)
            bl_merge_field(type, type->fields[k], it->fields[k] + from * bl_field_nbytes(type->fields[k]), here,
                           blocks);
    }
}

const char *zf_blocks_decode(const uint8_t *payload, size_t payload_nbytes, uint8_t *out, size_t nbytes) {
    if (payload_nbytes < 1)
        return "the payload is empty";
    if (payload[0] < 1 || payload[0] >= ZF_BLOCK_TYPES)
        return "unknown type of blocks";
    const bl_type *type = &bl_types[payload[0]];
    const size_t n = nbytes / type->nbytes, tail = nbytes % type->nbytes;
    if (!n)
        return "there is no block to decode";
    if (payload_nbytes < 1 + tail)
        return "the payload is cut short";
    const uint8_t *at = payload + 1, *end = payload + payload_nbytes - tail;
    uint8_t *runs[BL_MOST_CLASSES] = {NULL};
    int peaks_out = 0;
    areas it;
    if (!take_areas(&it, type, n))
        return zf_no_memory;
    const char *wrong = decode_all(&it, type, n, &at, end, runs, &peaks_out);
    if (wrong == NULL && at != end)
        wrong = "the payload's length differs from what its fields say";
    if (wrong == NULL)
        put_together(&it, type, n, runs, peaks_out, out);
    free(it.room);
    if (wrong == NULL && tail)
        memcpy(out + nbytes - tail, end, tail);
    return wrong;
}
