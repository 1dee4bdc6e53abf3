/* Feeds damaged payloads to the solo decoder: mutate_solo SECONDS SEED.  It is built with sanitizers, and every buffer is
   an allocation of exactly its length, so that a byte read or written outside one ends the program.  All instruction sets
   must encode to the same bytes, and agree on what a damaged payload holds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common.h"
#include "dispatch.h"

enum { KINDS = 10, LAYOUTS = ZF_LAYOUTS - 1 };

static uint64_t state;

static uint64_t random_bits(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t bound) { return (size_t)(random_bits() % bound); }

static void *allocate(size_t nbytes) {
    void *room = malloc(nbytes ? nbytes : 1);
    if (room == NULL)
        abort();
    return room;
}

static void fail(const char *what, const char *detail) {
    fprintf(stderr, "%s: %s\n", what, detail == NULL ? "" : detail);
    abort();
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

static int encode(const uint8_t *raw, size_t nbytes, int layout, uint8_t *payload, size_t capacity, size_t *used) {
    int failed = 0;
    for (int isa = 0; isa <= zf_dispatch_best(); isa++) {
        size_t used_now = 0;
        uint8_t *out = allocate(capacity);
        zf_dispatch_override(isa);
        int failed_now = zf_solo_encode(raw, nbytes, layout, out, capacity, &used_now);
        if (isa == 0) {
            failed = failed_now;
            *used = used_now;
            if (!failed)
                memcpy(payload, out, used_now);
        } else if (failed_now != failed || (!failed && (used_now != *used || memcmp(out, payload, used_now)))) {
            fail("encoders differ", zf_isa_name(isa));
        }
        free(out);
    }
    return failed;
}

/* Whether the payload was taken; `expected`, if any, is what it must decode to. */
static int decode(const uint8_t *payload, size_t payload_nbytes, size_t nbytes, const uint8_t *expected) {
    const char *wrong = NULL;
    uint8_t *first = allocate(nbytes);
    for (int isa = 0; isa <= zf_dispatch_best(); isa++) {
        uint8_t *out = isa ? allocate(nbytes) : first;
        zf_dispatch_override(isa);
        const char *wrong_now = zf_solo_decode(payload, payload_nbytes, out, nbytes);
        if (isa == 0)
            wrong = wrong_now;
        if ((wrong == NULL) != (wrong_now == NULL) || (wrong == NULL && nbytes && memcmp(out, first, nbytes)))
            fail("decoders differ", zf_isa_name(isa));
        if (isa)
            free(out);
    }
    if (expected != NULL && (wrong != NULL || memcmp(first, expected, nbytes)))
        fail("what was encoded does not come back", wrong);
    free(first);
    return wrong == NULL;
}

static int decode_mutant(const uint8_t *payload, size_t payload_nbytes, size_t nbytes) {
    size_t kind = below(6), length = payload_nbytes;
    if (kind == 0)
        length = below(payload_nbytes + 1);
    else if (kind == 1)
        length += below(20);
    uint8_t *mutant = allocate(length);
    for (size_t i = 0; i < length; i++)
        mutant[i] = i < payload_nbytes ? payload[i] : (uint8_t)random_bits();
    for (size_t changes = below(4); changes > 0 && length; changes--) {
        size_t at = below(below(3) && length > 200 ? 200 : length); /* tables stand in front */
        switch (below(4)) {
        case 0: mutant[at] ^= (uint8_t)(1 << below(8)); break;
        case 1: mutant[at] = (uint8_t)random_bits(); break;
        case 2: mutant[at] = below(2) ? 0 : 255; break;
        default: mutant[at] += below(2) ? 1 : 255; break;
        }
    }
    int taken = decode(mutant, length, below(8) ? nbytes : below(2 * nbytes + 2), NULL);
    free(mutant);
    return taken;
}

int main(int argc, char **argv) {
    if (argc != 3 || zf_dispatch_init() != NULL)
        return 2;
    time_t stop = time(NULL) + atol(argv[1]);
    state = (strtoull(argv[2], NULL, 10) + 1) * UINT64_C(0x9E3779B97F4A7C15);
    long payloads = 0, taken = 0, refused = 0;
    while (time(NULL) < stop) {
        int layout = 1 + (int)below(LAYOUTS), kind = (int)below(KINDS);
        size_t nbytes = random_length(), capacity = below(16) ? nbytes : below(nbytes + 1), used = 0;
        uint8_t *raw = allocate(nbytes), *payload = allocate(capacity);
        for (size_t i = 0; i < nbytes; i++)
            raw[i] = byte_of(kind, i);
        if (!encode(raw, nbytes, layout, payload, capacity, &used)) {
            uint8_t *exact = allocate(used);
            memcpy(exact, payload, used);
            payloads++;
            decode(exact, used, nbytes, raw);
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
