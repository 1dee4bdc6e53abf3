/* Feeds damaged payloads to the decoder of blocks: mutate_blocks SECONDS SEED (see mutate.h). */
#include "mutate_alone.h"

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

static size_t room_for(size_t nbytes) { return 2 * nbytes + 400; }

int main(int argc, char **argv) { return mutate_alone(argc, argv, ZF_BLOCK_TYPES - 1, KINDS); }
