#include "common.h"

static const char *decode_raw(const zf_step *step) {
    if (step->payload_nbytes != step->nbytes)
        return "raw payload is not as long as what it holds";
    if (step->nbytes)
        memcpy(step->out, step->payload, step->nbytes);
    return NULL;
}

size_t zf_decode_run(const zf_step *steps, size_t count, const char **wrong) {
    *wrong = NULL;
    for (size_t k = 0; k < count; k++) {
        const zf_step *step = &steps[k];
        if (step->codec == ZF_DELTA)
            *wrong = zf_delta_decode(step->payload, step->payload_nbytes, step->base, step->out, step->nbytes);
        else if (step->codec == ZF_SOLO)
            *wrong = zf_solo_decode(step->payload, step->payload_nbytes, step->out, step->nbytes);
        else
            *wrong = decode_raw(step);
        if (*wrong != NULL)
            return k;
    }
    return count;
}
