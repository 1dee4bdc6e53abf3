/* Blocks of 32 codes of 8 bits whose peak is taken out: the scale is chosen so that the largest code is 127 or -127, and where
   it stands costs less than that it may stand anywhere.

   The other 31 codes move up; byte 31 says which code was taken from where.  Each byte, centred, is then a high and a low
   half, and byte k of `high` has the high halves of bytes k and k + 16, as byte k of `low` has the low ones. */
#include "blocks.h"

enum { CODES = 32, CENTRE = 136, HALF = 16, AT_ONCE = 64 };

/* A peak that was taken from there makes all low halves of a block of zeros alike. */
enum { EVEN_PLACE = CENTRE & 15 };

static const uint8_t peaks[4] = {127, 129, 0, 128};

/* Where the code to be taken out is, and which it is; CODES if there is none. */
static int find_peak(const uint8_t *codes, int *which) {
    for (int at = 0; at < CODES; at++)
        if (codes[at] == 127 || codes[at] == 129) {
            *which = codes[at] == 129;
            return at;
        }
    *which = 2;
    if (codes[EVEN_PLACE] == 0)
        return EVEN_PLACE;
    for (; *which < 4; ++*which) {
        const uint8_t *found = memchr(codes, peaks[*which], CODES);
        if (found != NULL)
            return (int)(found - codes);
    }
    return CODES;
}

int bl_split_peaks(const bl_type *type, const uint8_t *blocks, size_t n, uint8_t *high, uint8_t *low) {
    for (const uint8_t *codes = blocks + type->at; n > 0; n--, codes += type->nbytes, high += HALF, low += HALF) {
        uint8_t bytes[CODES];
        int which, at = find_peak(codes, &which);
        if (at == CODES)
            return 0;
        for (int k = 0; k < CODES - 1; k++)
            bytes[k] = (uint8_t)(codes[k + (k >= at)] + CENTRE);
        bytes[CODES - 1] = (uint8_t)((at & 15) | (at >> 4 | which << 1) << 4);
        for (int k = 0; k < HALF; k++) {
            high[k] = (uint8_t)(bytes[k] >> 4 | (bytes[k + HALF] & 0xF0));
            low[k] = (uint8_t)((bytes[k] & 15) | (bytes[k + HALF] & 15) << 4);
        }
    }
    return 1;
}

ZF_INLINE void merge_halves(const uint8_t *restrict high, const uint8_t *restrict low, size_t n,
                            uint8_t *restrict bytes) {
    for (; n > 0; n--, high += HALF, low += HALF, bytes += CODES)
        for (int k = 0; k < HALF; k++) {
            bytes[k] = (uint8_t)((uint8_t)(high[k] << 4) | (low[k] & 15));
            bytes[k + HALF] = (uint8_t)((high[k] & 0xF0) | low[k] >> 4);
        }
}

ZF_INLINE void merge_peaks(const bl_type *type, const uint8_t *high, const uint8_t *low, size_t n, uint8_t *blocks) {
    uint8_t bytes[AT_ONCE * CODES], codes[AT_ONCE * CODES + CODES] = {0};
    uint8_t *to = blocks + type->at;
    while (n > 0) {
        const size_t here = n < AT_ONCE ? n : AT_ONCE;
        merge_halves(high, low, here, bytes);
        for (size_t k = 0; k < here * CODES; k++)
            codes[k] = (uint8_t)(bytes[k] - CENTRE);
        for (size_t k = 0; k < here; k++, to += type->nbytes) {
            const uint8_t *from = codes + k * CODES, told = bytes[k * CODES + CODES - 1];
            const size_t at = (size_t)(told & 31);
            memcpy(to, from, CODES);
            if (ZF_LIKELY(k + 1 < n)) /* a constant length; what it spoils of the next block is written later */
                memcpy(to + at + 1, from + at, CODES);
            else
                memcpy(to + at + 1, from + at, CODES - 1 - at);
            to[at] = peaks[told >> 5 & 3];
        }
        high += here * HALF;
        low += here * HALF;
        n -= here;
    }
}

#if ZF_X86
ZF_TARGET_AVX2 static void merge_peaks_avx2(const bl_type *type, const uint8_t *high, const uint8_t *low, size_t n,
                                            uint8_t *blocks) {
    merge_peaks(type, high, low, n, blocks);
}
#endif

void bl_merge_peaks(const bl_type *type, const uint8_t *high, const uint8_t *low, size_t n, uint8_t *blocks) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2) {
        merge_peaks_avx2(type, high, low, n, blocks);
        return;
    }
#endif
    merge_peaks(type, high, low, n, blocks);
}
