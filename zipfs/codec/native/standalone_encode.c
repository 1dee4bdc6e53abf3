/* The encoder of the standalone codec: items that are coded without a base.  zipfs/codec/README.md specifies every byte.

   Items are taken apart into byte planes; each plane is a constant, raw, or Huffman coded, whichever is smallest.  Planes
   of few values are first packed to 1, 2 or 4 bits an item, by which a Huffman code reaches less than a bit.  Zeros that
   are many are left out, with a mask of where they were. */
#include <stdlib.h>

#include "standalone.h"

/* A coded plane must be this much shorter than a raw one, which decodes several times as fast: a 64th. */
enum { WORTHWHILE_SHIFT = 6 };

/* Of a long plane so many bytes are counted first. */
enum {
    SAMPLED_FROM = 1 << 16,
    SAMPLED = 1 << 15,
    APART = 296 /* no place of rows that are a power of two long, such as their padding, is passed over */
};

/* What the encoder decided for one plane. */
typedef struct {
    const uint8_t *run; /* the items, packed or not */
    uint8_t *packed;    /* owned */
    size_t nbytes;      /* at most, when stored */
    size_t zeros;       /* how many items of the plane are zero, as far as that was counted */
    int coding, packing;
    uint8_t alphabet[16];
    sa_code code;
} choice;

/* The smaller of raw and Huffman for a run, as `it` has it packed; keeps what `it` holds if that is no larger. */
static void consider(choice *it, const uint8_t *run, size_t n, int packing, const uint32_t counts[256]) {
    int bits = sa_packed_bits(packing);
    size_t run_nbytes = sa_run_nbytes(n, bits), alphabet = packing ? (size_t)1 << bits : 0, raw = alphabet + run_nbytes;
    uint8_t lengths[256], table[SA_LENGTHS_NBYTES];
    uint64_t coded_bits = 0;
    int distinct = 0;
    if (raw < it->nbytes) {
        it->nbytes = raw;
        it->run = run;
        it->coding = SA_RAW;
        it->packing = packing;
    }
    for (int symbol = 0; symbol < 256; symbol++)
        distinct += counts[symbol] != 0;
    if (distinct < 2)
        return;
    sa_make_lengths(counts, lengths);
    for (int symbol = 0; symbol < 256; symbol++)
        coded_bits += (uint64_t)counts[symbol] * lengths[symbol];
    size_t streams = sa_all_streams(n, bits);
    size_t coded = alphabet + sa_put_lengths(lengths, table) + 3 * streams + (size_t)(coded_bits / 8);
    if (coded + (raw >> WORTHWHILE_SHIFT) >= it->nbytes)
        return;
    it->nbytes = coded;
    it->run = run;
    it->coding = SA_HUFFMAN;
    it->packing = packing;
    memcpy(it->code.lengths, lengths, sizeof lengths);
}

static void pack(const uint8_t *plane, size_t n, int bits, const uint8_t ranks[256], uint8_t *out) {
    size_t per_byte = 8 / (size_t)bits;
    for (size_t from = 0; from < n; from += per_byte) {
        uint32_t packed = 0;
        for (size_t k = 0; k < per_byte && from + k < n; k++)
            packed |= (uint32_t)ranks[plane[from + k]] << (bits * (int)k);
        *out++ = (uint8_t)packed;
    }
}

/* Whether a sample says that no code will help, as for the low mantissa bits of floats: its Renyi entropy of order 2, a
   lower bound of Shannon's, is over 7.92 bits. */
static int looks_even(const uint8_t *plane, size_t n) {
    uint32_t counts[256];
    uint64_t squares = 0, sampled = 0;
    if (n < SAMPLED_FROM)
        return 0;
    sa_count_some(plane, n, n / SAMPLED * SA_COUNTED + APART, counts);
    for (int symbol = 0; symbol < 256; symbol++) {
        squares += (uint64_t)counts[symbol] * counts[symbol];
        sampled += counts[symbol];
    }
    return squares < sampled * sampled / 242;
}

/* 0, or 1 if there is no memory. */
static int choose(choice *it, const uint8_t *plane, size_t n) {
    uint32_t counts[256];
    uint8_t ranks[256] = {0};
    int distinct = 0;
    memset(it, 0, sizeof *it);
    if (looks_even(plane, n)) {
        it->coding = SA_RAW;
        it->run = plane;
        it->nbytes = n;
        return 0;
    }
    sa_count(plane, n, counts);
    for (int symbol = 0; symbol < 256; symbol++)
        if (counts[symbol]) {
            ranks[symbol] = (uint8_t)distinct;
            if (distinct < 16)
                it->alphabet[distinct] = (uint8_t)symbol;
            distinct++;
        }
    it->nbytes = SIZE_MAX;
    it->zeros = counts[0];
    if (distinct == 1) {
        it->coding = SA_CONSTANT;
        it->nbytes = 1;
        return 0;
    }
    consider(it, plane, n, 0, counts);
    if (distinct > 16)
        return 0;
    int packing = distinct <= 2 ? 1 : distinct <= 4 ? 2 : 3;
    it->packed = malloc(sa_run_nbytes(n, sa_packed_bits(packing)));
    if (it->packed == NULL)
        return 1;
    pack(plane, n, sa_packed_bits(packing), ranks, it->packed);
    sa_count(it->packed, sa_run_nbytes(n, sa_packed_bits(packing)), counts);
    consider(it, it->packed, n, packing, counts);
    return 0;
}

/* Writes the section of a plane at *at; 1 if it does not fit before `end`.  `streams` holds those of one block. */
static int put_section(choice *it, size_t n, uint8_t **at, const uint8_t *end, uint8_t streams[SA_RUN_NBYTES]) {
    uint8_t *out = *at;
    int bits = sa_packed_bits(it->packing);
    if ((size_t)(end - out) < it->nbytes)
        return 1;
    if (it->coding == SA_CONSTANT) {
        *out++ = it->alphabet[0];
        *at = out;
        return 0;
    }
    if (it->packing) {
        memcpy(out, it->alphabet, (size_t)1 << bits);
        out += (size_t)1 << bits;
    }
    if (it->coding == SA_RAW) {
        memcpy(out, it->run, sa_run_nbytes(n, bits));
        *at = out + sa_run_nbytes(n, bits);
        return 0;
    }
    out += sa_put_lengths(it->code.lengths, out);
    uint8_t *lengths = out;
    out += 2 * sa_all_streams(n, bits);
    uint64_t pairs[SA_PAIRS];
    sa_make_words(&it->code);
    if (n >= SA_BLOCK)
        sa_make_pairs(&it->code, pairs);
    const uint8_t *run = it->run;
    for (size_t from = 0; from < n; from += SA_BLOCK) {
        size_t here = sa_run_nbytes(n - from < SA_BLOCK ? n - from : SA_BLOCK, bits);
        size_t nbytes = sa_encode_run(&it->code, run, here, lengths, streams);
        lengths += 2 * sa_streams(here);
        memcpy(out, streams, nbytes);
        out += nbytes;
        run += here;
    }
    *at = out;
    return 0;
}

int sa_encode_items(const uint8_t *raw, size_t n, int layout, size_t most, uint8_t *out, size_t capacity, size_t *used,
                    size_t *zeros) {
    int w = zf_layouts[layout].nbytes;
    *zeros = 0;
    if (capacity < (size_t)w)
        return 1;
    uint8_t *streams = malloc(SA_RUN_NBYTES + (w > 1 ? n * (size_t)w : 0)), *planes[8] = {NULL}, *at = out + w;
    choice *choices = calloc((size_t)w, sizeof *choices);
    size_t total = 0;
    int failed = choices == NULL || streams == NULL;
    if (!failed && w > 1) {
        for (int plane = 0; plane < w; plane++)
            planes[plane] = streams + SA_RUN_NBYTES + (size_t)plane * n;
        sa_split(raw, n, w, sa_turn(layout), planes);
    }
    for (int plane = 0; !failed && plane < w; plane++) {
        failed = choose(&choices[plane], w == 1 ? raw : planes[plane], n);
        total += choices[plane].nbytes;
        *zeros = plane == 0 || choices[plane].zeros < *zeros ? choices[plane].zeros : *zeros;
    }
    failed = failed || total > most || total > capacity;
    for (int plane = 0; !failed && plane < w; plane++) {
        out[plane] = (uint8_t)(choices[plane].coding | choices[plane].packing << SA_PACKING_SHIFT);
        failed = put_section(&choices[plane], n, &at, out + capacity, streams);
    }
    for (int plane = 0; choices != NULL && plane < w; plane++)
        free(choices[plane].packed);
    free(choices);
    free(streams);
    *used = (size_t)(at - out);
    return failed;
}

#define COUNT_ZEROS(type)                                  \
    for (size_t k = 0; k < n; k++) {                       \
        type item;                                         \
        memcpy(&item, raw + k * sizeof item, sizeof item); \
        zeros += item == 0;                                \
    }

static size_t count_zeros(const uint8_t *raw, size_t n, int w) {
    uint32_t zeros = 0;
    if (w == 1) {
        COUNT_ZEROS(uint8_t)
    } else if (w == 2) {
        COUNT_ZEROS(uint16_t)
    } else if (w == 4) {
        COUNT_ZEROS(uint32_t)
    } else {
        COUNT_ZEROS(uint64_t)
    }
    return zeros;
}

#define KEEP(type)                                         \
    for (size_t k = 0; k < n; k++) {                       \
        type item;                                         \
        memcpy(&item, raw + k * sizeof item, sizeof item); \
        memcpy(items, &item, sizeof item);                 \
        mask[k] = item != 0;                               \
        items += mask[k] * sizeof item;                    \
    }

/* `items` has room for one more, which is written and not kept. */
static void keep(const uint8_t *restrict raw, size_t n, int w, uint8_t *restrict mask, uint8_t *restrict items) {
    if (w == 1) {
        KEEP(uint8_t)
    } else if (w == 2) {
        KEEP(uint16_t)
    } else if (w == 4) {
        KEEP(uint32_t)
    } else {
        KEEP(uint64_t)
    }
}

/* A mask of the items that are not zero, and those items alone. */
static int encode_sparse(const uint8_t *raw, size_t n, size_t zeros, int layout, uint8_t *out, size_t capacity,
                         size_t *used) {
    int w = zf_layouts[layout].nbytes;
    size_t kept = n - zeros, mask_nbytes = 0, items_nbytes = 0, unused;
    uint8_t *mask = malloc(n + (kept + 1) * (size_t)w);
    if (mask == NULL)
        return 1;
    keep(raw, n, w, mask, mask + n);
    int failed = sa_encode_items(mask, n, ZF_I8, n - 1, out, capacity, &mask_nbytes, &unused);
    if (!failed)
        failed = sa_encode_items(mask + n, kept, layout, kept * (size_t)w - 1, out + mask_nbytes,
                                 capacity - mask_nbytes, &items_nbytes, &unused);
    free(mask);
    *used = mask_nbytes + items_nbytes;
    return failed;
}

int zf_standalone_encode(const uint8_t *raw, size_t nbytes, int layout, uint8_t *out, size_t capacity, size_t *used) {
    int w = zf_layouts[layout].nbytes;
    size_t n = nbytes / (size_t)w, tail = nbytes % (size_t)w, items_nbytes = 0, zeros;
    if (!n || nbytes > UINT32_MAX || capacity < 1 + tail)
        return 1;
    capacity -= 1 + tail;
    out[0] = (uint8_t)layout;
    int failed = sa_encode_items(raw, n, layout, n * (size_t)w - 1, out + 1, capacity, &items_nbytes, &zeros);
    size_t limit = failed ? capacity : items_nbytes - 1;
    if (zeros >= n / 16 && limit > n / 8)
        zeros = count_zeros(raw, n, w);
    if (zeros >= n / 16 && zeros > 0 && zeros < n && limit > n / 8) {
        size_t sparse_nbytes;
        uint8_t *sparse = malloc(limit);
        if (sparse != NULL && !encode_sparse(raw, n, zeros, layout, sparse, limit, &sparse_nbytes)) {
            out[0] |= SA_SPARSE;
            memcpy(out + 1, sparse, sparse_nbytes);
            items_nbytes = sparse_nbytes;
            failed = 0;
        }
        free(sparse);
    }
    if (failed)
        return 1;
    if (tail)
        memcpy(out + 1 + items_nbytes, raw + nbytes - tail, tail);
    *used = 1 + items_nbytes + tail;
    return 0;
}
