/* The decoder of the standalone codec, which trusts no byte: every length is compared with what is left before it is used, a
   code must be complete, and a stream must end where its length says.  zipfs/codec/README.md specifies every byte. */
#include <stdlib.h>

#include "standalone.h"

/* What the decoder knows of one plane. */
typedef struct {
    int coding, packing;
    const uint8_t *at;      /* where the run of the next block starts in the payload */
    const uint8_t *lengths; /* of its streams */
    const uint8_t *alphabet;
    sa_table *table;
    uint8_t *run;   /* a decoded run that is to be unpacked */
    uint8_t *items; /* a block of the plane */
} section;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* NULL stays NULL: an offset to it would be undefined. */
static uint8_t *behind(uint8_t *room, size_t nbytes) { return room == NULL ? NULL : room + nbytes; }

/* Scratch memory of a section, from *room on if there is one; returns how much. */
static size_t take_room(section *it, size_t n, uint8_t *room) {
    const size_t block = (smaller(n, SA_BLOCK) + 15) & ~(size_t)15;
    size_t taken = 0;
    if (it->coding == SA_HUFFMAN) {
        it->table = (sa_table *)(void *)behind(room, taken);
        taken += sizeof(sa_table);
        if (it->packing) {
            it->run = behind(room, taken);
            taken += block;
        }
    }
    if (it->coding != SA_RAW || it->packing) {
        it->items = behind(room, taken);
        taken += block;
    }
    return taken;
}

static const char *get_section(section *it, size_t n, const uint8_t **at, const uint8_t *end, uint8_t lengths[256]) {
    const uint8_t *in = *at;
    int bits = sa_packed_bits(it->packing);
    size_t left = (size_t)(end - in), run_nbytes = sa_run_nbytes(n, bits),
           alphabet = it->packing ? (size_t)1 << bits : 0;
    if (it->coding == SA_CONSTANT)
        alphabet = 1;
    if (left < alphabet)
        return "a plane is cut short";
    it->alphabet = in;
    in += alphabet;
    left -= alphabet;
    if (it->coding == SA_RAW) {
        if (left < run_nbytes)
            return "a plane is cut short";
        it->at = in;
        in += run_nbytes;
    } else if (it->coding == SA_HUFFMAN) {
        size_t table = sa_get_lengths(in, left, lengths), streams = sa_all_streams(n, bits);
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
static const char *decode_block(section *it, size_t n, const uint8_t *end, uint8_t *room, const uint8_t **items,
                                sa_soon *soon) {
    int bits = sa_packed_bits(it->packing);
    size_t nbytes = sa_run_nbytes(n, bits);
    uint8_t *to = room != NULL ? room : it->items;
    const uint8_t *run = it->at;
    *items = to;
    if (it->coding == SA_CONSTANT) {
        if (room != NULL)
            memset(room, it->alphabet[0], n);
        return NULL;
    }
    if (it->coding == SA_HUFFMAN) {
        uint8_t *decoded = it->packing ? it->run : to;
        const char *wrong = sa_decode_run(it->table, &it->at, it->lengths, end, decoded, nbytes, *soon);
        soon->written = soon->written_end;
        soon->read = soon->read_end;
        if (wrong != NULL)
            return wrong;
        it->lengths += 2 * sa_streams(nbytes);
        run = decoded;
    } else {
        it->at += nbytes;
    }
    if (it->packing) {
        unpack(run, n, bits, it->alphabet, to);
    } else if (run != to && room != NULL) {
        memcpy(to, run, n);
    } else if (run != to) {
        *items = run;
        soon->read = (uintptr_t)run;
        soon->read_end = soon->read + n;
    }
    return NULL;
}

static const char *decode_blocks(section sections[8], size_t n, int w, int turn, const uint8_t *end, uint8_t *out) {
    for (size_t from = 0; from < n; from += SA_BLOCK) {
        size_t here = smaller(n - from, SA_BLOCK);
        const uint8_t *planes[8] = {NULL};
        uintptr_t merged = (uintptr_t)(out + from * (size_t)w);
        sa_soon soon = {merged, merged, merged, merged};
        if (w > 1)
            soon.written_end += here * (size_t)w;
        for (int plane = 0; plane < w; plane++) {
            uint8_t *room = w == 1 ? out + from : NULL;
            const char *wrong = decode_block(&sections[plane], here, end, room, &planes[plane], &soon);
            if (wrong != NULL)
                return wrong;
        }
        if (w > 1)
            sa_merge(planes, here, w, turn, out + from * (size_t)w);
    }
    return NULL;
}

const char *sa_decode_items(const uint8_t **at, const uint8_t *end, size_t n, int layout, uint8_t *out) {
    section sections[8] = {{0}};
    uint8_t lengths[8][256];
    int w = zf_layouts[layout].nbytes;
    const uint8_t *modes = *at;
    size_t room_nbytes = 0;
    if (end - *at < w)
        return "the payload is cut short";
    *at += w;
    for (int plane = 0; plane < w; plane++) {
        section *it = &sections[plane];
        const uint8_t mode = modes[plane];
        it->coding = mode & SA_CODING_MASK;
        it->packing = mode >> SA_PACKING_SHIFT;
        if (mode >= SA_MODES || it->coding > SA_HUFFMAN || (it->coding == SA_CONSTANT && it->packing))
            return "unknown mode of a plane";
        const char *wrong = get_section(it, n, at, end, lengths[plane]);
        if (wrong != NULL)
            return wrong;
        room_nbytes += take_room(it, n, NULL);
    }
    uint8_t *room = malloc(room_nbytes + 1);
    if (room == NULL)
        return zf_no_memory;
    const char *wrong = NULL;
    uint8_t *next = room;
    for (int plane = 0; wrong == NULL && plane < w; plane++) {
        section *it = &sections[plane];
        next += take_room(it, n, next);
        if (it->coding == SA_CONSTANT)
            memset(it->items, it->alphabet[0], smaller(n, SA_BLOCK));
        else if (it->coding == SA_HUFFMAN && !sa_make_table(lengths[plane], it->table))
            wrong = "a table of code lengths is no complete code";
    }
    if (wrong == NULL)
        wrong = decode_blocks(sections, n, w, sa_turn(layout), *at, out);
    free(room);
    return wrong;
}

/* Item by item the next one of `items`, or zero where the mask is; one item behind the last is read and not used.  Eight
   at once where the mask does not change, as in rows of zeros. */
#define SPREAD_ONE(type)                                   \
    do {                                                   \
        type item;                                         \
        memcpy(&item, items, sizeof item);                 \
        item = (type)(item & (type)-(type)mask[k]);        \
        memcpy(out + k * sizeof item, &item, sizeof item); \
        items += mask[k] * sizeof item;                    \
    } while (0)

#define SPREAD(type)                                                     \
    do {                                                                 \
        size_t k = 0;                                                    \
        while (k + 8 <= n) {                                             \
            uint64_t eight = zf_get64(mask + k);                         \
            if (!eight) {                                                \
                memset(out + k * sizeof(type), 0, 8 * sizeof(type));     \
                k += 8;                                                  \
            } else if (eight == EIGHT_KEPT) {                            \
                memcpy(out + k * sizeof(type), items, 8 * sizeof(type)); \
                items += 8 * sizeof(type);                               \
                k += 8;                                                  \
            } else {                                                     \
                for (size_t stop = k + 8; k < stop; k++)                 \
                    SPREAD_ONE(type);                                    \
            }                                                            \
        }                                                                \
        for (; k < n; k++)                                               \
            SPREAD_ONE(type);                                            \
    } while (0)

#define EIGHT_KEPT UINT64_C(0x0101010101010101)

static void spread(const uint8_t *restrict mask, size_t n, int w, const uint8_t *restrict items,
                   uint8_t *restrict out) {
    if (w == 1)
        SPREAD(uint8_t);
    else if (w == 2)
        SPREAD(uint16_t);
    else if (w == 4)
        SPREAD(uint32_t);
    else
        SPREAD(uint64_t);
}

/* How many of a mask are kept, or SIZE_MAX if it holds more than 0 and 1. */
static size_t count_kept(const uint8_t *mask, size_t n) {
    size_t kept = 0;
    uint8_t any = 0;
    for (size_t from = 0; from < n; from += 128) {
        uint8_t sum = 0;
        for (size_t k = from; k < from + 128 && k < n; k++) {
            sum = (uint8_t)(sum + mask[k]);
            any |= mask[k];
        }
        kept += sum;
    }
    return any > 1 ? SIZE_MAX : kept;
}

static const char *decode_sparse(const uint8_t **at, const uint8_t *end, size_t n, int layout, uint8_t *out) {
    int w = zf_layouts[layout].nbytes;
    size_t kept = 0;
    uint8_t *mask = malloc(n), *items = NULL;
    if (mask == NULL)
        return zf_no_memory;
    const char *wrong = sa_decode_items(at, end, n, ZF_I8, mask);
    if (wrong == NULL && ((kept = count_kept(mask, n)) == 0 || kept == SIZE_MAX))
        wrong = "a mask leaves no item, or holds more than 0 and 1";
    if (wrong == NULL && (items = malloc((kept + 1) * (size_t)w)) == NULL)
        wrong = zf_no_memory;
    if (wrong == NULL)
        wrong = sa_decode_items(at, end, kept, layout, items);
    if (wrong == NULL) {
        memset(items + kept * (size_t)w, 0, (size_t)w);
        spread(mask, n, w, items, out);
    }
    free(items);
    free(mask);
    return wrong;
}

const char *zf_standalone_decode(const uint8_t *payload, size_t payload_nbytes, uint8_t *out, size_t nbytes) {
    if (payload_nbytes < 1)
        return "the payload is empty";
    int layout = payload[0] & ~SA_SPARSE, sparse = payload[0] & SA_SPARSE;
    if (layout <= ZF_PLAIN || layout >= ZF_LAYOUTS)
        return "unknown layout";
    size_t w = zf_layouts[layout].nbytes, n = nbytes / w, tail = nbytes % w;
    if (!n)
        return "there is no item to decode";
    if (payload_nbytes < 1 + tail)
        return "the payload is cut short";
    const uint8_t *at = payload + 1, *end = payload + payload_nbytes - tail;
    const char *wrong = sparse ? decode_sparse(&at, end, n, layout, out) : sa_decode_items(&at, end, n, layout, out);
    if (wrong == NULL && at != end)
        wrong = "the payload's length differs from what its planes say";
    if (wrong == NULL && tail)
        memcpy(out + nbytes - tail, end, tail);
    return wrong;
}
