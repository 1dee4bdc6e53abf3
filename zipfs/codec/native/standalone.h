/* Parts of the standalone codec: the Huffman code of a run of bytes, and items taken apart into planes and put together. */
#ifndef ZF_STANDALONE_H
#define ZF_STANDALONE_H

#include "common.h"

enum {
    SA_CODE_BITS = 11, /* longest code word, and width of the look-up */
    SA_ENTRIES = 1 << SA_CODE_BITS,
    SA_MOST_SYMBOLS = 6,     /* of an entry of the look-up */
    SA_STREAMS = 4,          /* decoded side by side, because one alone waits for its own look-ups */
    SA_BLOCK = 1 << 16,      /* items decoded at once: their planes stay in the level 2 cache */
    SA_ONE_STREAM = 1 << 12, /* a run that is shorter is one stream: three lengths saved, no time worth it */
    SA_STREAM_NBYTES = SA_BLOCK / SA_STREAMS * SA_CODE_BITS / 8 + 16, /* room for a stream and a word more */
    SA_RUN_NBYTES = SA_STREAMS * SA_STREAM_NBYTES,
    SA_LENGTHS_NBYTES = 128, /* the longest table of code lengths */
    SA_COUNTED = 512,
    SA_PAIR_BITS = 6, /* of each byte of a pair, less the lowest that pairs can hold */
    SA_PAIR_SIDE = 1 << SA_PAIR_BITS,
    SA_PAIRS = SA_PAIR_SIDE * SA_PAIR_SIDE
};

/* Payload: u8 layout, with SA_SPARSE if a mask says which items are stored; [mode and section of the mask]; u8 mode of
   each plane; their sections; the odd tail.  A mode: bits 0-1 coding, bits 2-3 packing. */
enum {
    SA_SPARSE = 0x80,
    SA_CONSTANT = 0,
    SA_RAW = 1,
    SA_HUFFMAN = 2,
    SA_CODING_MASK = 3,
    SA_PACKING_SHIFT = 2,
    SA_MODES = 16
};

/* Bits of an item in the run of a plane, by packing: 8 is unpacked. */
ZF_INLINE int sa_packed_bits(int packing) { return packing ? 1 << (packing - 1) : 8; }

/* Bytes of n items at `bits` each; every block but the last fills its bytes. */
ZF_INLINE size_t sa_run_nbytes(size_t n, int bits) { return (n * (size_t)bits + 7) / 8; }

/* How many of the top bits of an item go below the 8 bits that follow them. */
ZF_INLINE int sa_turn(int layout) {
    return layout == ZF_F64 ? 4 : layout == ZF_BF16 || layout == ZF_F16 || layout == ZF_F32;
}

/* A code: the length of every byte's code word (0: does not occur), and the words, first bit lowest, in the highest bits
   with their length in the lowest.  If `pairs` is given it holds the words of pairs of bytes from `lowest` on, above which
   there are none that pairs cannot hold. */
typedef struct {
    uint8_t lengths[256];
    uint64_t words[256];
    const uint64_t *pairs;
    uint8_t lowest;
} sa_code;

/* An entry of the look-up: bits 0-5 bits used by all its symbols, 8-55 up to six symbols, 56-59 bits used by the first,
   60-63 how many symbols. */
typedef uint64_t sa_entry;

/* What a decoder looks up: entries, and the first symbol of each by itself, which are fewer bytes; `singly` says that an
   entry seldom has more. */
typedef struct {
    sa_entry entries[SA_ENTRIES];
    uint16_t firsts[SA_ENTRIES]; /* length << 8 | symbol */
    int singly;
} sa_table;

/* Optimal lengths of at most SA_CODE_BITS for at least two bytes that occur. */
void sa_make_lengths(const uint32_t counts[256], uint8_t lengths[256]);
void sa_make_words(sa_code *code);
/* Fills `pairs` and has the code use them. */
void sa_make_pairs(sa_code *code, uint64_t pairs[SA_PAIRS]);
/* Whether the lengths are those of a complete code; only then the table is filled. */
int sa_make_table(const uint8_t lengths[256], sa_table *table);

/* The lengths as stored, at most SA_LENGTHS_NBYTES; returns how many bytes. */
size_t sa_put_lengths(const uint8_t lengths[256], uint8_t *out);
/* Returns how many bytes were read, or 0 if they are no table. */
size_t sa_get_lengths(const uint8_t *in, size_t nbytes, uint8_t lengths[256]);

/* Into how many streams a run of n bytes is cut, and the length of each but the last. */
ZF_INLINE int sa_streams(size_t n) { return n < SA_ONE_STREAM ? 1 : SA_STREAMS; }
ZF_INLINE size_t sa_stream_items(size_t n) { return n < SA_ONE_STREAM ? n : (n + SA_STREAMS - 1) / SA_STREAMS; }

/* How many streams the run of n items has in all. */
ZF_INLINE size_t sa_all_streams(size_t n, int bits) {
    size_t rest = n % SA_BLOCK, streams = n / SA_BLOCK * (size_t)sa_streams(sa_run_nbytes(SA_BLOCK, bits));
    return streams + (rest ? (size_t)sa_streams(sa_run_nbytes(rest, bits)) : 0);
}

/* How often each byte occurs; and how often in the first SA_COUNTED bytes of every `step`. */
void sa_count(const uint8_t *run, size_t n, uint32_t counts[256]);
void sa_count_some(const uint8_t *run, size_t n, size_t step, uint32_t counts[256]);

/* The lowest byte of the pairs for bytes up to `highest`. */
ZF_INLINE uint8_t sa_lowest(uint8_t highest) {
    return highest < SA_PAIR_SIDE ? 0 : (uint8_t)(highest - (SA_PAIR_SIDE - 1));
}

/* Makes pairs of the n bytes of a run, the first one in the low bits; n is even.  0 if one is below `lowest`. */
ZF_INLINE int sa_pair(const uint8_t *run, size_t n, uint8_t lowest, uint16_t *pairs) {
    const uint16_t both = (uint16_t)(lowest * 0x101u), mask = SA_PAIR_SIDE - 1;
    uint8_t least = 255;
    for (size_t k = 0; k < n; k++)
        least = run[k] < least ? run[k] : least;
    if (least < lowest)
        return 0;
    for (size_t k = 0; k < n / 2; k++) {
        const uint16_t above = (uint16_t)(zf_get16(run + 2 * k) - both), second = (uint16_t)(above >> 8);
        pairs[k] = (uint16_t)((above & mask) | (uint16_t)(second << SA_PAIR_BITS));
    }
    return 1;
}
/* The streams of a run of at most SA_BLOCK bytes and their `lengths` (u16 each); returns the bytes of the streams.  It
   may write 8 bytes more, and never more than SA_RUN_NBYTES. */
size_t sa_encode_run(const sa_code *code, const uint8_t *run, size_t n, uint8_t *lengths, uint8_t *out);
/* Memory that is to be written and read next: it is fetched while a run is decoded, which itself keeps within the caches.
   Payloads and targets that are in no cache take a fifth less time by it. */
typedef struct {
    uintptr_t written, written_end, read, read_end;
} sa_soon;

/* A run of at most SA_BLOCK bytes from the streams that lie behind each other at `in`, as long as `lengths` (u16)
   says; all lie before `end`, and nothing at or behind it is read.  NULL or what was wrong. */
const char *sa_decode_run(const sa_table *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end,
                          uint8_t *out, size_t n, sa_soon soon);

/* The modes and sections of n items, n at least 1; as zf_standalone_encode otherwise.  It fails if the sections take more
   than `most` bytes; raw ones take n items.  No more than *zeros items are zero. */
int sa_encode_items(const uint8_t *raw, size_t n, int layout, size_t most, uint8_t *out, size_t capacity, size_t *used,
                    size_t *zeros);
/* The modes and sections of n items from *at on, none of which lies at or behind `end`. */
const char *sa_decode_items(const uint8_t **at, const uint8_t *end, size_t n, int layout, uint8_t *out);

/* Plane i of an item of w bytes is its byte i after its top `turn` bits went below the 8 bits that follow them. */
void sa_split(const uint8_t *raw, size_t n, int w, int turn, uint8_t *const planes[8]);
void sa_merge(const uint8_t *const planes[8], size_t n, int w, int turn, uint8_t *out);

#endif
