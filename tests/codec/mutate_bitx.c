/* Feeds damaged payloads to the bitx decoder: mutate_bitx SECONDS SEED (see mutate.h). */
#include "mutate.h"

static int encode_once(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out,
                       size_t capacity, size_t *used) {
    return zf_bitx_encode(raw, base, nbytes, layout, out, capacity, used);
}

static const char *decode_once(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out,
                               size_t nbytes) {
    return zf_bitx_decode(payload, payload_nbytes, base, out, nbytes);
}

static size_t random_items(void) {
    switch (below(8)) {
    case 0: return below(40);
    case 1: return 32768 + below(30000);
    case 2: return 1000 + below(5000);
    default: return below(700);
    }
}

static void make_pair(uint8_t *raw, uint8_t *base, size_t nbytes, int layout) {
    const zf_layout *fields = &zf_layouts[layout];
    const unsigned item = fields->nbytes, width = 8 * item;
    const unsigned size = (unsigned)below(width - 2), rare = (unsigned)below(4);
    /* Narrower floats end in zeros: BF16 or F16 in F32, F8 in F16 or BF16. */
    const unsigned zeros = item > 1 && fields->exponent_bits && !below(4) ? 3 + (unsigned)below(width - 10) : 0;
    const uint64_t middle = fields->exponent_bits ? (uint64_t)1 << (fields->exponent_bits - 1) : 0;
    for (size_t at = 0; at < nbytes; at += item) {
        uint64_t b = random_bits(), change = random_bits() & (((uint64_t)1 << size) - 1), f;
        if (fields->exponent_bits) {
            uint64_t exponent = middle - 1 - (uint64_t)__builtin_ctzll(random_bits() | (uint64_t)1 << 12) % middle;
            b = (b & (((uint64_t)1 << fields->mantissa_bits) - 1)) | exponent << fields->mantissa_bits;
            b |= (random_bits() & 1) << (width - 1);
        }
        if (rare == 1 && random_bits() % 16)
            change = 0;
        if (rare == 2 && at / 512 % 3)
            change = 0;
        f = random_bits() & 1 ? b + change : b - change;
        if (rare == 3 && random_bits() % 50 == 0)
            f = random_bits();
        f = f >> zeros << zeros;
        size_t n = nbytes - at < item ? nbytes - at : item;
        memcpy(raw + at, &f, n);
        memcpy(base + at, &b, n);
    }
}

static int decode_mutant(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, size_t nbytes) {
    size_t length;
    uint8_t *mutant = damaged(payload, payload_nbytes, 100, &length);
    size_t shorter = below(8) ? nbytes : below(nbytes + 1); /* the base must have as many bytes */
    uint8_t *base_now = allocate(shorter);
    for (size_t i = 0; i < shorter; i++)
        base_now[i] = base[i];
    for (size_t changes = below(3) ? 0 : below(50); changes > 0 && shorter; changes--)
        base_now[below(shorter)] = (uint8_t)random_bits();
    int taken = decode(mutant, length, base_now, shorter, NULL);
    free(base_now);
    free(mutant);
    return taken;
}

int main(int argc, char **argv) {
    const time_t stop = begin(argc, argv);
    if (stop == 0)
        return 2;
    while (time(NULL) < stop) {
        int layout = 1 + (int)below(ZF_LAYOUTS - 1);
        const size_t item = zf_layouts[layout].nbytes, nbytes = random_items() * item + below(item);
        const size_t capacity = below(16) ? nbytes + nbytes / 4 + 400 : below(nbytes + 1);
        uint8_t *raw = allocate(nbytes), *base = allocate(nbytes);
        make_pair(raw, base, nbytes, layout);
        try_payload(raw, base, nbytes, layout, capacity, 10);
        free(base);
        free(raw);
    }
    return report();
}
