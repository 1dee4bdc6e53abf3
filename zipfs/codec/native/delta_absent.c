#include "common.h"

#pragma weak zf_delta_encode
#pragma weak zf_delta_decode

int zf_delta_encode(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out, size_t capacity, size_t *used) {
    (void)raw, (void)base, (void)nbytes, (void)layout, (void)out, (void)capacity, (void)used;
    return 1;
}

const char *zf_delta_decode(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out, size_t nbytes) {
    (void)payload, (void)base, (void)payload_nbytes, (void)out, (void)nbytes;
    return "there is no delta codec";
}
