/* What the drivers that feed damaged payloads to a decoder share.  Whoever includes this defines what is coded:
   `encode_once` and `decode_once`, as the coder's own functions do, with a base that standalone coding leaves out (NULL),
   and `decode_mutant`.
   Every buffer is an allocation of exactly its length, so that under sanitizers a byte read or written outside one ends
   the program. */
#ifndef ZIPFS_TESTS_MUTATE_H
#define ZIPFS_TESTS_MUTATE_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common.h"
#include "dispatch.h"

static int encode_once(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out,
                       size_t capacity, size_t *used);
static const char *decode_once(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out,
                               size_t nbytes);

/* Decodes one damaged copy of a payload; whether it was taken. */
static int decode_mutant(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, size_t nbytes);

static uint64_t state;
static long payloads, mutants_taken, mutants_refused;

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

/* All instruction sets must encode to the same bytes. */
static int encode(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *payload, size_t capacity,
                  size_t *used) {
    int failed = 0;
    for (int isa = 0; isa <= zf_dispatch_best(); isa++) {
        size_t used_now = 0;
        uint8_t *out = allocate(capacity);
        zf_dispatch_override(isa);
        int failed_now = encode_once(raw, base, nbytes, layout, out, capacity, &used_now);
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

/* Whether the payload was taken, on which all instruction sets agree; `expected`, if any, is what it must decode to. */
static int decode(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, size_t nbytes,
                  const uint8_t *expected) {
    const char *wrong = NULL;
    uint8_t *first = allocate(nbytes);
    for (int isa = 0; isa <= zf_dispatch_best(); isa++) {
        uint8_t *out = isa ? allocate(nbytes) : first;
        zf_dispatch_override(isa);
        const char *wrong_now = decode_once(payload, payload_nbytes, base, out, nbytes);
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

/* A damaged copy of a payload, to be freed; `tables` is about how many bytes in front hold tables. */
static uint8_t *damaged(const uint8_t *payload, size_t payload_nbytes, size_t tables, size_t *nbytes) {
    size_t kind = below(6), length = payload_nbytes;
    if (kind == 0)
        length = below(payload_nbytes + 1);
    else if (kind == 1)
        length += below(20);
    uint8_t *mutant = allocate(length);
    for (size_t i = 0; i < length; i++)
        mutant[i] = i < payload_nbytes ? payload[i] : (uint8_t)random_bits();
    for (size_t changes = below(4); changes > 0 && length; changes--) {
        size_t at = below(below(3) && length > tables ? tables : length);
        switch (below(4)) {
        case 0: mutant[at] ^= (uint8_t)(1 << below(8)); break;
        case 1: mutant[at] = (uint8_t)random_bits(); break;
        case 2: mutant[at] = below(2) ? 0 : 255; break;
        default: mutant[at] += below(2) ? 1 : 255; break;
        }
    }
    *nbytes = length;
    return mutant;
}

/* Encodes some bytes into at most `capacity`, and decodes what came of it as it is and damaged: `rounds` times if it is
   long. */
static void try_payload(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, size_t capacity,
                        int rounds) {
    size_t used = 0;
    uint8_t *payload = allocate(capacity);
    if (!encode(raw, base, nbytes, layout, payload, capacity, &used)) {
        uint8_t *exact = allocate(used);
        memcpy(exact, payload, used);
        payloads++;
        decode(exact, used, base, nbytes, raw);
        for (int round = used < 3000 ? 60 : rounds; round > 0; round--)
            decode_mutant(exact, used, base, nbytes) ? mutants_taken++ : mutants_refused++;
        free(exact);
    }
    free(payload);
}

/* Says what was tried, and gives the exit code. */
static int report(void) {
    printf("%ld payloads, %ld mutants refused, %ld taken\n", payloads, mutants_refused, mutants_taken);
    return payloads == 0;
}

/* When to stop, by the arguments SECONDS and SEED; 0 if they or this machine will not do. */
static time_t begin(int argc, char **argv) {
    if (argc != 3 || zf_dispatch_init() != NULL)
        return 0;
    state = (strtoull(argv[2], NULL, 10) + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return time(NULL) + atol(argv[1]);
}

#endif
