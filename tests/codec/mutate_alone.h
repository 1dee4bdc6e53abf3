/* The driver of decoders that need no base (see mutate.h).  Whoever includes this defines, besides, how many kinds of
   content there are and how many layouts, what byte a kind has at a place, how long the content is, and how long a
   payload of it may get. */
#ifndef ZIPFS_TESTS_MUTATE_ALONE_H
#define ZIPFS_TESTS_MUTATE_ALONE_H

#include "mutate.h"

static uint8_t byte_of(int kind, size_t i);
static size_t random_length(void);
static size_t room_for(size_t nbytes);

enum { TABLES_NBYTES = 200 };

static int decode_mutant(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, size_t nbytes) {
    size_t length;
    uint8_t *mutant = damaged(payload, payload_nbytes, TABLES_NBYTES, &length);
    int taken = decode(mutant, length, base, below(8) ? nbytes : below(2 * nbytes + 2), NULL);
    free(mutant);
    return taken;
}

static int mutate_alone(int argc, char **argv, int layouts, int kinds) {
    const time_t stop = begin(argc, argv);
    if (stop == 0)
        return 2;
    while (time(NULL) < stop) {
        const int layout = 1 + (int)below((size_t)layouts), kind = (int)below((size_t)kinds);
        const size_t nbytes = random_length(), capacity = below(16) ? room_for(nbytes) : below(nbytes + 1);
        uint8_t *raw = allocate(nbytes);
        for (size_t i = 0; i < nbytes; i++)
            raw[i] = byte_of(kind, i);
        try_payload(raw, NULL, nbytes, layout, capacity, 6);
        free(raw);
    }
    return report();
}

#endif
