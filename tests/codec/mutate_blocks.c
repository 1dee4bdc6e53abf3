/* Feeds damaged payloads to the decoder of blocks: mutate_blocks SECONDS SEED (see mutate.h). */
#include "mutate.h"

enum { KINDS = 5 };

static int encode_once(const uint8_t *raw, const uint8_t *base, size_t nbytes, int code, uint8_t *out, size_t capacity,
                       size_t *used) {
    (void)base;
    return zf_blocks_encode(raw, nbytes, code, out, capacity, used);
}

static const char *decode_once(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out,
                               size_t nbytes) {
    (void)base;
    return zf_blocks_decode(payload, payload_nbytes, out, nbytes);
}

static uint8_t byte_of(int kind, size_t i) {
    const uint64_t bits = random_bits();
    switch (kind) {
    case 0: return (uint8_t)bits;
    case 1: return i % 16 < 2 ? (uint8_t)bits : (uint8_t)__builtin_ctzll(bits | 1 << 7);
    case 2: return 0;
    case 3: return bits % 11 ? (uint8_t)((bits >> 8 & 7) * (bits >> 16 & 7)) : bits & 1 << 20 ? 127 : 129;
    default: return i / 300 % 2 ? 0 : (uint8_t)(bits & (bits >> 8));
    }
}

static size_t random_length(void) {
    switch (below(8)) {
    case 0: return below(400);
    case 1: return 60000 + below(200000);
    default: return below(9000);
    }
}

static int decode_mutant(const uint8_t *payload, size_t payload_nbytes, size_t nbytes) {
    size_t length;
    uint8_t *mutant = damaged(payload, payload_nbytes, 200, &length);
    int taken = decode(mutant, length, NULL, below(8) ? nbytes : below(2 * nbytes + 2), NULL);
    free(mutant);
    return taken;
}

int main(int argc, char **argv) {
    const time_t stop = begin(argc, argv);
    if (stop == 0)
        return 2;
    long payloads = 0, taken = 0, refused = 0;
    while (time(NULL) < stop) {
        const int code = 1 + (int)below(ZF_BLOCK_TYPES - 1), kind = (int)below(KINDS);
        const size_t nbytes = random_length(), capacity = below(16) ? 2 * nbytes + 400 : below(nbytes + 1);
        size_t used = 0;
        uint8_t *raw = allocate(nbytes), *payload = allocate(capacity);
        for (size_t i = 0; i < nbytes; i++)
            raw[i] = byte_of(kind, i);
        if (!encode(raw, NULL, nbytes, code, payload, capacity, &used)) {
            uint8_t *exact = allocate(used);
            memcpy(exact, payload, used);
            payloads++;
            decode(exact, used, NULL, nbytes, raw);
            for (int round = used < 3000 ? 60 : 6; round > 0; round--)
                decode_mutant(exact, used, nbytes) ? taken++ : refused++;
            free(exact);
        }
        free(payload);
        free(raw);
    }
    printf("%ld payloads, %ld mutants refused, %ld taken\n", payloads, refused, taken);
    return payloads == 0;
}
