#include "common.h"

#pragma weak zf_solo_encode
#pragma weak zf_solo_decode

int zf_solo_encode(const uint8_t *raw, size_t nbytes, int layout, uint8_t *out, size_t capacity, size_t *used) {
    (void)raw, (void)nbytes, (void)layout, (void)out, (void)capacity, (void)used;
    return 1;
}

const char *zf_solo_decode(const uint8_t *payload, size_t payload_nbytes, uint8_t *out, size_t nbytes) {
    (void)payload, (void)payload_nbytes, (void)out, (void)nbytes;
    return "there is no solo codec";
}
