/* The solo codec: items that are coded without a base.  README.md beside zipfs/codec specifies every byte.

   Items are taken apart into byte planes; each plane is a constant, raw, or Huffman coded, whichever is smallest.  Planes
   of few values are first packed to 1, 2 or 4 bits an item, by which a Huffman code reaches less than a bit. */
#include "solo.h"

#include <stdlib.h>

enum { CONSTANT = 0, RAW = 1, HUFFMAN = 2, CODING_MASK = 3, PACKING_SHIFT = 2, MODES = 16 };

/* A coded plane must be this much shorter than a raw one, which decodes several times as fast: a 64th. */
enum { WORTHWHILE_SHIFT = 6 };

static const uint8_t packings[4] = {8, 1, 2, 4}; /* bits of an item, by bits 2-3 of a mode */

static int turn_of(int layout) {
    if (layout == ZF_F64)
        return 4;
    return layout == ZF_BF16 || layout == ZF_F16 || layout == ZF_F32;
}

/* Bytes of n items packed to `bits` each; a block but the last fills its bytes. */
static size_t packed_nbytes(size_t n, int bits) { return (n * (size_t)bits + 7) / 8; }

/* How many streams the run of a plane has in all. */
static size_t all_streams(size_t n, int bits) {
    size_t rest = n % SOLO_BLOCK, streams = n / SOLO_BLOCK * (size_t)solo_streams(packed_nbytes(SOLO_BLOCK, bits));
    return streams + (rest ? (size_t)solo_streams(packed_nbytes(rest, bits)) : 0);
}

/* What the encoder decided for one plane. */
typedef struct {
    const uint8_t *run; /* the items, packed or not */
    uint8_t *packed;    /* owned */
    size_t nbytes;      /* at most, when stored */
    int coding, packing;
    uint8_t alphabet[16];
    solo_code code;
} choice;

/* The smaller of raw and Huffman for a run, as `it` has it packed; keeps what `it` holds if that is no larger. */
static void consider(choice *it, const uint8_t *run, size_t n, int packing, const uint32_t counts[256]) {
    int bits = packings[packing];
    size_t run_nbytes = packed_nbytes(n, bits), alphabet = packing ? (size_t)1 << bits : 0, raw = alphabet + run_nbytes;
    uint8_t lengths[256], table[SOLO_LENGTHS_NBYTES];
    uint64_t coded_bits = 0;
    int distinct = 0;
    if (raw < it->nbytes) {
        it->nbytes = raw;
        it->run = run;
        it->coding = RAW;
        it->packing = packing;
    }
    for (int symbol = 0; symbol < 256; symbol++)
        distinct += counts[symbol] != 0;
    if (distinct < 2)
        return;
    solo_make_lengths(counts, lengths);
    for (int symbol = 0; symbol < 256; symbol++)
        coded_bits += (uint64_t)counts[symbol] * lengths[symbol];
    size_t streams = all_streams(n, bits);
    size_t coded = alphabet + solo_put_lengths(lengths, table) + 3 * streams + (size_t)(coded_bits / 8);
    if (coded + (raw >> WORTHWHILE_SHIFT) >= it->nbytes)
        return;
    it->nbytes = coded;
    it->run = run;
    it->coding = HUFFMAN;
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

/* 0, or 1 if there is no memory. */
static int choose(choice *it, const uint8_t *plane, size_t n) {
    uint32_t counts[256];
    uint8_t ranks[256] = {0};
    int distinct = 0;
    solo_count(plane, n, counts);
    memset(it->alphabet, 0, sizeof it->alphabet);
    for (int symbol = 0; symbol < 256; symbol++)
        if (counts[symbol]) {
            ranks[symbol] = (uint8_t)distinct;
            if (distinct < 16)
                it->alphabet[distinct] = (uint8_t)symbol;
            distinct++;
        }
    it->packed = NULL;
    it->nbytes = SIZE_MAX;
    if (distinct == 1) {
        it->coding = CONSTANT;
        it->packing = 0;
        it->nbytes = 1;
        return 0;
    }
    consider(it, plane, n, 0, counts);
    if (distinct > 16)
        return 0;
    int packing = distinct <= 2 ? 1 : distinct <= 4 ? 2 : 3;
    it->packed = malloc(packed_nbytes(n, packings[packing]));
    if (it->packed == NULL)
        return 1;
    pack(plane, n, packings[packing], ranks, it->packed);
    solo_count(it->packed, packed_nbytes(n, packings[packing]), counts);
    consider(it, it->packed, n, packing, counts);
    return 0;
}

/* Writes the section of a plane at *at; 1 if it does not fit before `end`. */
static int put_section(choice *it, size_t n, uint8_t **at, const uint8_t *end) {
    uint8_t stored[SOLO_STREAM_NBYTES], *out = *at;
    int bits = packings[it->packing];
    if ((size_t)(end - out) < it->nbytes)
        return 1;
    if (it->coding == CONSTANT) {
        *out++ = it->alphabet[0];
        *at = out;
        return 0;
    }
    if (it->packing) {
        memcpy(out, it->alphabet, (size_t)1 << bits);
        out += (size_t)1 << bits;
    }
    if (it->coding == RAW) {
        memcpy(out, it->run, packed_nbytes(n, bits));
        *at = out + packed_nbytes(n, bits);
        return 0;
    }
    out += solo_put_lengths(it->code.lengths, out);
    uint8_t *lengths = out;
    out += 2 * all_streams(n, bits);
    solo_make_words(&it->code);
    const uint8_t *run = it->run;
    for (size_t from = 0; from < n; from += SOLO_BLOCK) {
        size_t left = packed_nbytes(n - from < SOLO_BLOCK ? n - from : SOLO_BLOCK, bits), items = solo_stream_items(left);
        for (; left > 0; lengths += 2) {
            size_t here = left < items ? left : items, nbytes = solo_encode_stream(&it->code, run, here, stored);
            zf_put16(lengths, (uint16_t)nbytes);
            memcpy(out, stored, nbytes);
            out += nbytes;
            run += here;
            left -= here;
        }
    }
    *at = out;
    return 0;
}

static int encode_planes(const uint8_t *raw, size_t n, int w, uint8_t *const planes[8], choice *choices, uint8_t *modes,
                         uint8_t **at, const uint8_t *end) {
    size_t total = 0;
    for (int plane = 0; plane < w; plane++) {
        if (choose(&choices[plane], w == 1 ? raw : planes[plane], n))
            return 1;
        total += choices[plane].nbytes;
    }
    if (total >= n * (size_t)w)
        return 1;
    for (int plane = 0; plane < w; plane++) {
        modes[plane] = (uint8_t)(choices[plane].coding | choices[plane].packing << PACKING_SHIFT);
        if (put_section(&choices[plane], n, at, end))
            return 1;
    }
    return 0;
}

int zf_solo_encode(const uint8_t *raw, size_t nbytes, int layout, uint8_t *out, size_t capacity, size_t *used) {
    int w = zf_layouts[layout].nbytes;
    size_t n = nbytes / (size_t)w, tail = nbytes % (size_t)w, head = 1 + (size_t)w;
    if (!n || capacity < head + tail)
        return 1;
    uint8_t *scratch = w > 1 ? malloc(n * (size_t)w) : NULL, *planes[8] = {NULL}, *at = out + head;
    choice *choices = calloc((size_t)w, sizeof *choices);
    int failed = choices == NULL || (w > 1 && scratch == NULL);
    if (!failed && w > 1) {
        for (int plane = 0; plane < w; plane++)
            planes[plane] = scratch + (size_t)plane * n;
        solo_split(raw, n, w, turn_of(layout), planes);
    }
    failed = failed || encode_planes(raw, n, w, planes, choices, out + 1, &at, out + capacity - tail);
    if (!failed) {
        out[0] = (uint8_t)layout;
        if (tail)
            memcpy(at, raw + nbytes - tail, tail);
        *used = (size_t)(at - out) + tail;
    }
    for (int plane = 0; choices != NULL && plane < w; plane++)
        free(choices[plane].packed);
    free(choices);
    free(scratch);
    return failed;
}

/* What the decoder knows of one plane. */
typedef struct {
    int coding, packing;
    const uint8_t *at;      /* where the run of the next block starts in the payload */
    const uint8_t *lengths; /* of its streams */
    const uint8_t *alphabet;
    solo_entry *table;
    uint8_t *run;   /* a decoded run that is to be unpacked */
    uint8_t *items; /* a block of the plane */
} section;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Scratch memory of a section, from *room on if there is one; returns how much. */
static size_t take_room(section *it, size_t n, uint8_t *room) {
    size_t block = (smaller(n, SOLO_BLOCK) + 15) & ~(size_t)15, taken = 0;
    if (it->coding == HUFFMAN) {
        it->table = (solo_entry *)(void *)(room + taken);
        taken += SOLO_ENTRIES * sizeof(solo_entry);
        if (it->packing) {
            it->run = room + taken;
            taken += block;
        }
    }
    if (it->coding != RAW || it->packing) {
        it->items = room + taken;
        taken += block;
    }
    return taken;
}

static const char *get_section(section *it, size_t n, const uint8_t **at, const uint8_t *end, uint8_t lengths[256]) {
    const uint8_t *in = *at;
    int bits = packings[it->packing];
    size_t left = (size_t)(end - in), run_nbytes = packed_nbytes(n, bits), alphabet = it->packing ? (size_t)1 << bits : 0;
    if (it->coding == CONSTANT)
        alphabet = 1;
    if (left < alphabet)
        return "a plane is cut short";
    it->alphabet = in;
    in += alphabet;
    left -= alphabet;
    if (it->coding == RAW) {
        if (left < run_nbytes)
            return "a plane is cut short";
        it->at = in;
        in += run_nbytes;
    } else if (it->coding == HUFFMAN) {
        size_t table = solo_get_lengths(in, left, lengths), streams = all_streams(n, bits);
        if (!table)
            return "a table of code lengths is malformed";
        if (left - table < 2 * streams)
            return "a plane is cut short";
        it->lengths = in + table;
        it->at = in + table + 2 * streams;
        left -= table + 2 * streams;
        for (size_t k = 0; k < streams; k++) {
            size_t nbytes = zf_get16(it->lengths + 2 * k);
            if (left < nbytes)
                return "a stream runs past the end of the payload";
            left -= nbytes;
        }
        in = end - left;
    }
    *at = in;
    return NULL;
}

static void unpack(const uint8_t *packed, size_t n, int bits, const uint8_t *alphabet, uint8_t *out) {
    uint8_t items[256][8];
    size_t per_byte = 8 / (size_t)bits, whole = n / per_byte;
    for (int byte = 0; byte < 256; byte++)
        for (size_t k = 0; k < 8; k++)
            items[byte][k] = k < per_byte ? alphabet[byte >> (bits * (int)k) & ((1 << bits) - 1)] : 0;
    for (size_t k = 0; k < whole; k++) {
        if (bits == 1)
            memcpy(out, items[packed[k]], 8);
        else if (bits == 2)
            memcpy(out, items[packed[k]], 4);
        else
            memcpy(out, items[packed[k]], 2);
        out += per_byte;
    }
    if (n % per_byte)
        memcpy(out, items[packed[whole]], n % per_byte);
}

/* The next n items of a plane, at *items: `room` if it is not NULL, or wherever they are. */
static const char *decode_block(section *it, size_t n, const uint8_t *end, uint8_t *room, const uint8_t **items) {
    int bits = packings[it->packing];
    size_t nbytes = packed_nbytes(n, bits);
    uint8_t *to = room != NULL ? room : it->items;
    const uint8_t *run = it->at;
    *items = to;
    if (it->coding == CONSTANT) {
        if (room != NULL)
            memset(room, it->alphabet[0], n);
        return NULL;
    }
    if (it->coding == HUFFMAN) {
        uint8_t *decoded = it->packing ? it->run : to;
        const char *wrong = solo_decode_run(it->table, it->at, it->lengths, end, decoded, nbytes);
        if (wrong != NULL)
            return wrong;
        for (int k = solo_streams(nbytes); k > 0; k--, it->lengths += 2)
            it->at += zf_get16(it->lengths);
        run = decoded;
    } else {
        it->at += nbytes;
    }
    if (it->packing)
        unpack(run, n, bits, it->alphabet, to);
    else if (run != to && room != NULL)
        memcpy(to, run, n);
    else
        *items = run;
    return NULL;
}

static const char *decode_blocks(section sections[8], size_t n, int w, int turn, const uint8_t *end, uint8_t *out) {
    for (size_t from = 0; from < n; from += SOLO_BLOCK) {
        size_t here = smaller(n - from, SOLO_BLOCK);
        const uint8_t *planes[8] = {NULL};
        for (int plane = 0; plane < w; plane++) {
            const char *wrong = decode_block(&sections[plane], here, end, w == 1 ? out + from : NULL, &planes[plane]);
            if (wrong != NULL)
                return wrong;
        }
        if (w > 1)
            solo_merge(planes, here, w, turn, out + from * (size_t)w);
    }
    return NULL;
}

const char *zf_solo_decode(const uint8_t *payload, size_t payload_nbytes, uint8_t *out, size_t nbytes) {
    section sections[8] = {{0}};
    uint8_t lengths[8][256];
    if (payload_nbytes < 1)
        return "the payload is empty";
    int layout = payload[0];
    if (layout <= ZF_PLAIN || layout >= ZF_LAYOUTS)
        return "unknown layout";
    int w = zf_layouts[layout].nbytes;
    size_t n = nbytes / (size_t)w, tail = nbytes % (size_t)w, room_nbytes = 0;
    const uint8_t *at = payload + 1 + w, *end = payload + payload_nbytes;
    if (!n)
        return "there is no item to decode";
    if (payload_nbytes < 1 + (size_t)w + tail)
        return "the payload is cut short";
    for (int plane = 0; plane < w; plane++) {
        int mode = payload[1 + plane];
        section *it = &sections[plane];
        it->coding = mode & CODING_MASK;
        it->packing = mode >> PACKING_SHIFT;
        if (mode >= MODES || it->coding > HUFFMAN || (it->coding == CONSTANT && it->packing))
            return "unknown mode of a plane";
        const char *wrong = get_section(it, n, &at, end - tail, lengths[plane]);
        if (wrong != NULL)
            return wrong;
        room_nbytes += take_room(it, n, NULL);
    }
    if ((size_t)(end - at) != tail)
        return "the payload's length differs from what its planes say";
    uint8_t *room = malloc(room_nbytes + 1);
    if (room == NULL)
        return "there is no memory to decode it";
    const char *wrong = NULL;
    uint8_t *next = room;
    for (int plane = 0; wrong == NULL && plane < w; plane++) {
        section *it = &sections[plane];
        next += take_room(it, n, next);
        if (it->coding == CONSTANT)
            memset(it->items, it->alphabet[0], smaller(n, SOLO_BLOCK));
        else if (it->coding == HUFFMAN && !solo_make_table(lengths[plane], it->table))
            wrong = "a table of code lengths is no complete code";
    }
    if (wrong == NULL)
        wrong = decode_blocks(sections, n, w, turn_of(layout), end, out);
    if (wrong == NULL && tail)
        memcpy(out + nbytes - tail, at, tail);
    free(room);
    return wrong;
}
