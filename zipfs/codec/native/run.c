#include "checksum.h"
#include "common.h"

static const char *decode_raw(const zf_step *step) {
    if (step->payload_nbytes != step->nbytes)
        return "raw payload is not as long as what it holds";
    if (step->nbytes)
        memcpy(step->out, step->payload, step->nbytes);
    return NULL;
}

static const char *decode_step(const zf_step *step) {
    switch (step->codec) {
    case ZF_BITX: return zf_bitx_decode(step->payload, step->payload_nbytes, step->base, step->out, step->nbytes);
    case ZF_STANDALONE: return zf_standalone_decode(step->payload, step->payload_nbytes, step->out, step->nbytes);
    case ZF_BLOCKS: return zf_blocks_decode(step->payload, step->payload_nbytes, step->out, step->nbytes);
    default: return decode_raw(step);
    }
}

size_t zf_decode_run(const zf_step *steps, size_t count, const char **wrong) {
    *wrong = NULL;
    for (size_t k = 0; k < count; k++) {
        *wrong = decode_step(&steps[k]);
        /* At once, while the bytes are in the caches, and before a later step takes them for its base. */
        if (*wrong == NULL && zf_checksum(steps[k].out, steps[k].nbytes, steps[k].seed) != steps[k].checksum)
            *wrong = "decoded bytes do not match their checksum";
        if (*wrong != NULL)
            return k;
    }
    return count;
}
