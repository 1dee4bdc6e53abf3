/* The types of blocks, by ggml-common.h, and their fields: scales of 6 bits become bytes, all else stands as it is. */
#include "blocks.h"

#define SCALE_F16(offset) {ZF_F16, 1, offset}
#define BYTES(n, offset) {ZF_I8, n, offset}

const bl_type bl_types[ZF_BLOCK_TYPES] = {
    /* code = {bytes, coding of codes, key, units, bytes of one, where the codes are, where their high bits are, fields} */
    [1] = {18, BL_BYTES, BL_KEY_D, 1, 16, 2, 0, {SCALE_F16(0)}},                   /* Q1_0 */
    [2] = {18, BL_BYTES, BL_KEY_D, 1, 16, 2, 0, {SCALE_F16(0)}},                   /* Q2_0 */
    [3] = {18, BL_BYTES, BL_KEY_D, 1, 16, 2, 0, {SCALE_F16(0)}},                   /* Q4_0 */
    [4] = {20, BL_BYTES, BL_KEY_RATIO, 1, 16, 4, 0, {SCALE_F16(0), SCALE_F16(2)}}, /* Q4_1 */
    [5] = {22, BL_HIGH_BITS, BL_KEY_D, 1, 32, 6, 2, {SCALE_F16(0)}},               /* Q5_0 */
    [6] = {24, BL_HIGH_BITS, BL_KEY_RATIO, 1, 32, 8, 4, {SCALE_F16(0), SCALE_F16(2)}},
    [7] = {34, BL_EIGHT_BITS, BL_KEY_D, 1, 32, 2, 0, {SCALE_F16(0)}},               /* Q8_0 */
    [8] = {36, BL_EIGHT_BITS, BL_KEY_D, 1, 32, 4, 0, {SCALE_F16(0), SCALE_F16(2)}}, /* Q8_1 */
    [9] = {84, BL_K2, BL_KEY_RATIO_K2, 16, 4, 16, 0, {SCALE_F16(80), SCALE_F16(82), BYTES(16, 0)}},
    [10] = {110, BL_K3, BL_KEY_OFF_32, 16, 8, 32, 0, {{BL_SCALES_K3, 16, 96}, SCALE_F16(108)}},
    [11] = {144, BL_K4, BL_KEY_RATIO_K4, 8, 16, 16, 0, {SCALE_F16(0), SCALE_F16(2), {BL_SCALES_K4, 16, 4}}},
    [12] = {176, BL_K5, BL_KEY_RATIO_K4, 8, 32, 48, 16, {SCALE_F16(0), SCALE_F16(2), {BL_SCALES_K4, 16, 4}}},
    [13] = {210, BL_K6, BL_KEY_SIGNED, 16, 16, 0, 128, {BYTES(16, 192), SCALE_F16(208)}},
    [14] = {292, BL_BYTES, BL_KEY_NONE, 8, 32, 4, 0, {{ZF_F32, 1, 0}, {ZF_I16, 16, 260}}}, /* Q8_K */
    [15] = {50, .fields = {SCALE_F16(0), BYTES(32, 2), {ZF_I16, 8, 34}}},                  /* IQ1_S */
    [16] = {56, .fields = {BYTES(32, 0), BYTES(16, 32), BYTES(8, 48)}},                    /* IQ1_M */
    [17] = {66, .fields = {SCALE_F16(0), {ZF_I64, 8, 2}}},                                 /* IQ2_XXS */
    [18] = {74, .fields = {SCALE_F16(0), {ZF_I16, 32, 2}, BYTES(8, 66)}},                  /* IQ2_XS */
    [19] = {82, .fields = {SCALE_F16(0), BYTES(32, 2), BYTES(32, 34), BYTES(8, 66), BYTES(8, 74)}},
    [20] = {98, .fields = {SCALE_F16(0), BYTES(64, 2), {ZF_I32, 8, 66}}},                             /* IQ3_XXS */
    [21] = {110, .fields = {SCALE_F16(0), BYTES(64, 2), BYTES(8, 66), BYTES(32, 74), BYTES(4, 106)}}, /* IQ3_S */
    [22] = {18, BL_BYTES, BL_KEY_D, 1, 16, 2, 0, {SCALE_F16(0)}},                                     /* IQ4_NL */
    [23] = {136, BL_BYTES, BL_KEY_OFF_32, 8, 16, 8, 0, {{BL_SCALES_XS, 8, 2}, SCALE_F16(0)}},         /* IQ4_XS */
    [24] = {54, .fields = {BYTES(48, 0), BYTES(4, 48), SCALE_F16(52)}},                               /* TQ1_0 */
    [25] = {66, .fields = {BYTES(64, 0), SCALE_F16(64)}},                                             /* TQ2_0 */
    [26] = {17, BL_BYTES, BL_KEY_BYTE, 1, 16, 1, 0, {BYTES(1, 0)}},                                   /* MXFP4 */
    [27] = {36, BL_BYTES, BL_KEY_BYTE, 4, 8, 4, 0, {BYTES(4, 0)}},                                    /* NVFP4 */
};

static void split_k4(const uint8_t s[12], uint8_t out[16]) {
    for (int j = 0; j < 4; j++) {
        out[j] = s[j] & 63;
        out[8 + j] = s[j + 4] & 63;
        out[4 + j] = (uint8_t)((s[j + 8] & 15) | (s[j] >> 6) << 4);
        out[12 + j] = (uint8_t)(s[j + 8] >> 4 | (s[j + 4] >> 6) << 4);
    }
}

static void merge_k4(const uint8_t in[16], uint8_t s[12]) {
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)((in[j] & 63) | (in[4 + j] >> 4 & 3) << 6);
        s[j + 4] = (uint8_t)((in[8 + j] & 63) | (in[12 + j] >> 4 & 3) << 6);
        s[j + 8] = (uint8_t)((in[4 + j] & 15) | (in[12 + j] & 15) << 4);
    }
}

static void split_k3(const uint8_t s[12], uint8_t out[16]) {
    for (int j = 0; j < 16; j++) {
        const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4, high = s[8 + j % 4] >> (2 * (j / 4)) & 3;
        out[j] = (uint8_t)(low | high << 4);
    }
}

static void merge_k3(const uint8_t in[16], uint8_t s[12]) {
    for (int j = 0; j < 8; j++)
        s[j] = (uint8_t)((in[j] & 15) | (in[j + 8] & 15) << 4);
    for (int j = 0; j < 4; j++)
        s[8 + j] = (uint8_t)((in[j] >> 4 & 3) | (in[4 + j] >> 4 & 3) << 2 | (in[8 + j] >> 4 & 3) << 4 |
                             (in[12 + j] >> 4 & 3) << 6);
}

/* Two bytes of high bits, four of low ones. */
static void split_xs(const uint8_t s[6], uint8_t out[8]) {
    for (int j = 0; j < 8; j++)
        out[j] = (uint8_t)((s[2 + j / 2] >> (4 * (j % 2)) & 15) | (zf_get16(s) >> (2 * j) & 3) << 4);
}

static void merge_xs(const uint8_t in[8], uint8_t s[6]) {
    uint32_t high = 0;
    for (int j = 0; j < 8; j++)
        high |= (uint32_t)(in[j] >> 4 & 3) << (2 * j);
    zf_put16(s, (uint16_t)high);
    for (int j = 0; j < 4; j++)
        s[2 + j] = (uint8_t)((in[2 * j] & 15) | (in[2 * j + 1] & 15) << 4);
}

void bl_split_field(const bl_type *type, bl_field field, const uint8_t *blocks, size_t n, uint8_t *items) {
    const size_t nbytes = bl_field_nbytes(field);
    const uint8_t *at = blocks + field.at;
    for (size_t k = 0; k < n; k++, at += type->nbytes, items += nbytes) {
        if (field.kind == BL_SCALES_K4)
            split_k4(at, items);
        else if (field.kind == BL_SCALES_K3)
            split_k3(at, items);
        else if (field.kind == BL_SCALES_XS)
            split_xs(at, items);
        else if (nbytes == 2)
            memcpy(items, at, 2);
        else
            memcpy(items, at, nbytes);
    }
}

void bl_merge_field(const bl_type *type, bl_field field, const uint8_t *items, size_t n, uint8_t *blocks) {
    const size_t nbytes = bl_field_nbytes(field);
    uint8_t *at = blocks + field.at;
    for (size_t k = 0; k < n; k++, at += type->nbytes, items += nbytes) {
        if (field.kind == BL_SCALES_K4)
            merge_k4(items, at);
        else if (field.kind == BL_SCALES_K3)
            merge_k3(items, at);
        else if (field.kind == BL_SCALES_XS)
            merge_xs(items, at);
        else if (nbytes == 2)
            memcpy(at, items, 2);
        else
            memcpy(at, items, nbytes);
    }
}
