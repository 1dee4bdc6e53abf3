/* Feeds damaged payloads to the standalone decoder: mutate_standalone SECONDS SEED (see mutate.h). */
#include "mutate_alone.h"

enum { KINDS = 10 };

static int encode_once(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out,
                       size_t capacity, size_t *used) {
    (void)base;
    return zf_standalone_encode(raw, nbytes, layout, out, capacity, used);
}

static const char *decode_once(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out,
                               size_t nbytes) {
    (void)base;
    return zf_standalone_decode(payload, payload_nbytes, out, nbytes);
}

/* Small numbers of which each is half as frequent as the one before. */
static uint8_t geometric(uint64_t bits, int most) { return (uint8_t)__builtin_ctzll(bits | UINT64_C(1) << most); }

static uint8_t byte_of(int kind, size_t i) {
    uint64_t bits = random_bits();
    switch (kind) {
    case 0: return (uint8_t)bits;
    case 1: return (bits & 255) < 30 ? (uint8_t)(bits >> 8) : 0;
    case 2: return (uint8_t)(120 + geometric(bits, 7));
    case 3: return i % 2 ? (uint8_t)(0x3C + geometric(bits, 4)) : (uint8_t)bits;
    case 4: return bits & 1;
    case 5: return (uint8_t)((bits & 3) * 7);
    case 6: return 7;
    case 7: return (uint8_t)((bits & 15) * (bits >> 60));
    case 8: return i / 64 % 2 ? 0 : (uint8_t)(3 * geometric(bits, 12));
    default: return i % 4 == 3 ? (uint8_t)(0x3C + geometric(bits, 4)) : (uint8_t)bits;
    }
}

static size_t random_length(void) {
    switch (below(8)) {
    case 0: return below(40);
    case 1: return 60000 + below(300000);
    case 2: return 4000 + below(9000);
    default: return below(3000);
    }
}

static size_t room_for(size_t nbytes) { return nbytes; }

int main(int argc, char **argv) { return mutate_alone(argc, argv, ZF_LAYOUTS - 1, KINDS); }
