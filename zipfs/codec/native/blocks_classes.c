/* Which units of codes are alike: the key of each by its scales, its class by thresholds, and the runs of the classes. */
#include "blocks.h"

/* The magnitude of an F16 as an F32 that holds it exactly.  An exponent of all ones is one like the others. */
ZF_INLINE float magnitude(uint16_t half) {
    const uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
    const uint32_t bits = (exponent + 112) << 23 | mantissa << 13;
    float normal;
    memcpy(&normal, &bits, 4);
    return exponent ? normal : (float)mantissa * 0x1p-24f;
}

/* 256 offset / step, at most 65,535; 0 if there is no step.  Both are exact, and their quotient is the nearest F32. */
ZF_INLINE uint16_t ratio_key(float offset, float step) {
    const float key = step > 0 ? offset / step * 256 : 0;
    return key < 65535 ? (uint16_t)(int32_t)key : 65535;
}

ZF_INLINE uint16_t field16(const uint8_t *items, size_t k) { return zf_get16(items + 2 * k); }

ZF_INLINE void make_keys(const bl_type *type, uint8_t *const fields[BL_MOST_FIELDS], size_t n, uint16_t *keys) {
    const size_t units = n * type->units;
    const uint8_t *first = fields[0];
    switch (type->key) {
    case BL_KEY_D:
        for (size_t k = 0; k < units; k++)
            keys[k] = field16(first, k) & 0x7FFF;
        break;
    case BL_KEY_BYTE:
        for (size_t k = 0; k < units; k++)
            keys[k] = first[k];
        break;
    case BL_KEY_SIGNED:
        for (size_t k = 0; k < units; k++)
            keys[k] = (uint16_t)(first[k] < 128 ? first[k] : 256 - first[k]);
        break;
    case BL_KEY_OFF_32:
        for (size_t k = 0; k < units; k++)
            keys[k] = (uint16_t)((first[k] & 63) < 32 ? 32 - (first[k] & 63) : (first[k] & 63) - 32);
        break;
    case BL_KEY_RATIO:
        for (size_t k = 0; k < n; k++)
            keys[k] = ratio_key(magnitude(field16(fields[1], k)), magnitude(field16(first, k)));
        break;
    case BL_KEY_RATIO_K2:
        for (size_t k = 0; k < n; k++) {
            const float d = magnitude(field16(first, k)), dmin = magnitude(field16(fields[1], k));
            const uint8_t *scales = fields[2] + 16 * k;
            for (int unit = 0; unit < 16; unit++)
                keys[16 * k + (size_t)unit] = ratio_key((float)(scales[unit] >> 4) * dmin,
                                                        (float)(scales[unit] & 15) * d);
        }
        break;
    case BL_KEY_RATIO_K4:
        for (size_t k = 0; k < n; k++) {
            const float d = magnitude(field16(first, k)), dmin = magnitude(field16(fields[1], k));
            const uint8_t *scales = fields[2] + 16 * k, *mins = scales + 8;
            for (int unit = 0; unit < 8; unit++)
                keys[8 * k + (size_t)unit] = ratio_key((float)(mins[unit] & 63) * dmin, (float)(scales[unit] & 63) * d);
        }
        break;
    default: memset(keys, 0, units * sizeof *keys); break;
    }
}

ZF_INLINE void make_classes(const uint16_t *restrict keys, size_t units, const uint16_t *thresholds, int more,
                            uint8_t *restrict classes) {
    memset(classes, 0, units);
    for (int k = 0; k < more; k++) {
        const uint16_t threshold = thresholds[k];
        for (size_t unit = 0; unit < units; unit++)
            classes[unit] = (uint8_t)(classes[unit] + (keys[unit] >= threshold));
    }
}

/* A constant `copied`, at least nbytes; each copy may touch what follows. */
#define GATHER(copied)                             \
    for (size_t unit = 0; unit < units; unit++) {  \
        uint8_t *from = runs[classes[unit]];       \
        memcpy(out + unit * stride, from, copied); \
        runs[classes[unit]] = from + nbytes;       \
    }

ZF_INLINE void gather(const uint8_t *classes, size_t units, size_t nbytes, size_t stride,
                      uint8_t *runs[BL_MOST_CLASSES], uint8_t *out) {
    if (nbytes <= 4) {
        GATHER(4)
    } else if (nbytes <= 8) {
        GATHER(8)
    } else if (nbytes <= 16) {
        GATHER(16)
    } else {
        GATHER(32)
    }
}

#if ZF_X86
ZF_TARGET_AVX2 static void make_keys_avx2(const bl_type *type, uint8_t *const fields[BL_MOST_FIELDS], size_t n,
                                          uint16_t *keys) {
    make_keys(type, fields, n, keys);
}

ZF_TARGET_AVX2 static void make_classes_avx2(const uint16_t *keys, size_t units, const uint16_t *thresholds, int more,
                                             uint8_t *classes) {
    make_classes(keys, units, thresholds, more, classes);
}

ZF_TARGET_AVX2 static void gather_avx2(const uint8_t *classes, size_t units, size_t nbytes, size_t stride,
                                       uint8_t *runs[BL_MOST_CLASSES], uint8_t *out) {
    gather(classes, units, nbytes, stride, runs, out);
}
#endif

void bl_make_keys(const bl_type *type, uint8_t *const fields[BL_MOST_FIELDS], size_t n, uint16_t *keys) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2) {
        make_keys_avx2(type, fields, n, keys);
        return;
    }
#endif
    make_keys(type, fields, n, keys);
}

void bl_make_classes(const uint16_t *keys, size_t units, const uint16_t *thresholds, int more, uint8_t *classes) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2) {
        make_classes_avx2(keys, units, thresholds, more, classes);
        return;
    }
#endif
    make_classes(keys, units, thresholds, more, classes);
}

void bl_gather(const uint8_t *classes, size_t units, size_t nbytes, size_t stride, uint8_t *runs[BL_MOST_CLASSES],
               uint8_t *out) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2) {
        gather_avx2(classes, units, nbytes, stride, runs, out);
        return;
    }
#endif
    gather(classes, units, nbytes, stride, runs, out);
}

void bl_scatter(const uint8_t *classes, size_t units, size_t nbytes, size_t stride, const uint8_t *in,
                uint8_t *runs[BL_MOST_CLASSES]) {
    for (size_t unit = 0; unit < units; unit++) {
        memcpy(runs[classes[unit]], in + unit * stride, nbytes);
        runs[classes[unit]] += nbytes;
    }
}
