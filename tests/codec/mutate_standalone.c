/* Feeds damaged payloads to the standalone decoder: mutate_standalone SECONDS SEED (see mutate.h). */
#include "mutate.h"

enum { KINDS = 10, LAYOUTS = ZF_LAYOUTS - 1 };

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
        int layout = 1 + (int)below(LAYOUTS), kind = (int)below(KINDS);
        size_t nbytes = random_length(), capacity = below(16) ? nbytes : below(nbytes + 1), used = 0;
        uint8_t *raw = allocate(nbytes), *payload = allocate(capacity);
        for (size_t i = 0; i < nbytes; i++)
            raw[i] = byte_of(kind, i);
        if (!encode(raw, NULL, nbytes, layout, payload, capacity, &used)) {
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
