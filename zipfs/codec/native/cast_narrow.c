/* Floats that a narrower type would hold: weights of one precision are often kept in files of another. */
#include "cast.h"

enum { CHUNK_ITEMS = 256 };

/* Whether the lowest `bits` bits of every item are zero, as they are where a narrower type holds it. */
static int end_in_zeros(const uint8_t *items, size_t nbytes, unsigned item, unsigned bits) {
    uint32_t any = 0;
    for (size_t k = 0; k < nbytes && !(any & ((1u << bits) - 1));) {
        const size_t behind = nbytes - k > CHUNK_ITEMS * item ? k + CHUNK_ITEMS * item : nbytes;
        for (; k < behind; k += item)
            any |= item == 1 ? items[k] : item == 2 ? zf_get16(items + k) : zf_get32(items + k);
    }
    return !(any & ((1u << bits) - 1));
}

static int survives(const uint8_t *items, size_t count, int layout, int narrow) {
    uint8_t narrowed[CHUNK_ITEMS * 2], widened[CHUNK_ITEMS * 4];
    const unsigned item = zf_layouts[layout].nbytes;
    for (size_t k = 0; k < count; k += CHUNK_ITEMS) {
        const size_t now = count - k < CHUNK_ITEMS ? count - k : CHUNK_ITEMS;
        zf_cast(items + k * item, now, layout, narrow, 1.0f, narrowed);
        zf_cast(narrowed, now, narrow, layout, 1.0f, widened);
        if (memcmp(items + k * item, widened, now * item))
            return 0;
    }
    return 1;
}

int zf_is_narrower(int narrow, int layout) {
    return zf_layouts[narrow].nbytes <= zf_layouts[layout].nbytes &&
           zf_layouts[narrow].mantissa_bits < zf_layouts[layout].mantissa_bits &&
           zf_cast(NULL, 0, layout, narrow, 1.0f, NULL);
}

int zf_narrow_layout(const uint8_t *items, size_t nbytes, int layout) {
    static const uint8_t narrowest_first[] = {ZF_E4M3, ZF_E5M2, ZF_BF16, ZF_F16};
    const zf_layout *wide = &zf_layouts[layout];
    if (!wide->exponent_bits || nbytes % wide->nbytes)
        return ZF_PLAIN;
    for (unsigned k = 0; k < sizeof narrowest_first; k++) {
        const int narrow = narrowest_first[k];
        if (!zf_is_narrower(narrow, layout))
            continue;
        /* Of more exponents, a shorter mantissa holds all of a subnormal. */
        const unsigned dropped = zf_layouts[narrow].exponent_bits > wide->exponent_bits
                                     ? 0
                                     : (unsigned)(wide->mantissa_bits - zf_layouts[narrow].mantissa_bits);
        if (end_in_zeros(items, nbytes, wide->nbytes, dropped) &&
            survives(items, nbytes / wide->nbytes, layout, narrow))
            return narrow;
    }
    return ZF_PLAIN;
}
