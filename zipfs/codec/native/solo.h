/* Parts of the solo codec: the Huffman code of a run of bytes, and items taken apart into planes and put together. */
#ifndef ZF_SOLO_H
#define ZF_SOLO_H

#include "common.h"

enum {
    SOLO_CODE_BITS = 11, /* longest code word, and width of the look-up */
    SOLO_ENTRIES = 1 << SOLO_CODE_BITS,
    SOLO_MOST_SYMBOLS = 6,     /* of an entry of the look-up */
    SOLO_STREAMS = 4,          /* decoded side by side, because one alone waits for its own look-ups */
    SOLO_BLOCK = 1 << 16,      /* items decoded at once: their planes stay in the level 2 cache */
    SOLO_ONE_STREAM = 1 << 12, /* a run that is shorter is one stream: three lengths saved, no time worth it */
    SOLO_STREAM_NBYTES = SOLO_BLOCK / SOLO_STREAMS * SOLO_CODE_BITS / 8 + 16, /* room for a stream and a word more */
    SOLO_RUN_NBYTES = SOLO_STREAMS * SOLO_STREAM_NBYTES,
    SOLO_LENGTHS_NBYTES = 128, /* the longest table of code lengths */
    SOLO_COUNTED = 512,
    SOLO_PAIR_BITS = 6, /* of each byte of a pair, less the lowest that pairs can hold */
    SOLO_PAIR_SIDE = 1 << SOLO_PAIR_BITS,
    SOLO_PAIRS = SOLO_PAIR_SIDE * SOLO_PAIR_SIDE
};

/* Payload: u8 layout, with SOLO_SPARSE if a mask says which items are stored; [mode and section of the mask]; u8 mode of
   each plane; their sections; the odd tail.  A mode: bits 0-1 coding, bits 2-3 packing. */
enum {
    SOLO_SPARSE = 0x80,
    SOLO_CONSTANT = 0,
    SOLO_RAW = 1,
    SOLO_HUFFMAN = 2,
    SOLO_CODING_MASK = 3,
    SOLO_PACKING_SHIFT = 2,
    SOLO_MODES = 16
};

/* Bits of an item in the run of a plane, by packing: 8 is unpacked. */
ZF_INLINE int solo_packed_bits(int packing) { return packing ? 1 << (packing - 1) : 8; }

/* Bytes of n items at `bits` each; every block but the last fills its bytes. */
ZF_INLINE size_t solo_run_nbytes(size_t n, int bits) { return (n * (size_t)bits + 7) / 8; }

/* How many of the top bits of an item go below the 8 bits that follow them. */
ZF_INLINE int solo_turn(int layout) {
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
} solo_code;

/* An entry of the look-up: bits 0-5 bits used by all its symbols, 8-55 up to six symbols, 56-59 bits used by the first,
   60-63 how many symbols. */
typedef uint64_t solo_entry;

/* Optimal lengths of at most SOLO_CODE_BITS for at least two bytes that occur. */
void solo_make_lengths(const uint32_t counts[256], uint8_t lengths[256]);
void solo_make_words(solo_code *code);
/* Fills `pairs` and has the code use them. */
void solo_make_pairs(solo_code *code, uint64_t pairs[SOLO_PAIRS]);
/* Whether the lengths are those of a complete code; only then the table is filled. */
int solo_make_table(const uint8_t lengths[256], solo_entry table[SOLO_ENTRIES]);

/* The lengths as stored, at most SOLO_LENGTHS_NBYTES; returns how many bytes. */
size_t solo_put_lengths(const uint8_t lengths[256], uint8_t *out);
/* Returns how many bytes were read, or 0 if they are no table. */
size_t solo_get_lengths(const uint8_t *in, size_t nbytes, uint8_t lengths[256]);

/* Into how many streams a run of n bytes is cut, and the length of each but the last. */
ZF_INLINE int solo_streams(size_t n) { return n < SOLO_ONE_STREAM ? 1 : SOLO_STREAMS; }
ZF_INLINE size_t solo_stream_items(size_t n) { return n < SOLO_ONE_STREAM ? n : (n + SOLO_STREAMS - 1) / SOLO_STREAMS; }

/* How many streams the run of n items has in all. */
ZF_INLINE size_t solo_all_streams(size_t n, int bits) {
    size_t rest = n % SOLO_BLOCK, streams = n / SOLO_BLOCK * (size_t)solo_streams(solo_run_nbytes(SOLO_BLOCK, bits));
    return streams + (rest ? (size_t)solo_streams(solo_run_nbytes(rest, bits)) : 0);
}

/* How often each byte occurs; and how often in the first SOLO_COUNTED bytes of every `step`. */
void solo_count(const uint8_t *run, size_t n, uint32_t counts[256]);
void solo_count_some(const uint8_t *run, size_t n, size_t step, uint32_t counts[256]);

/* The lowest byte of the pairs for bytes up to `highest`. */
ZF_INLINE uint8_t solo_lowest(uint8_t highest) {
    return highest < SOLO_PAIR_SIDE ? 0 : (uint8_t)(highest - (SOLO_PAIR_SIDE - 1));
}

/* Makes pairs of the n bytes of a run, the first one in the low bits; n is even.  0 if one is below `lowest`. */
ZF_INLINE int solo_pair(const uint8_t *run, size_t n, uint8_t lowest, uint16_t *pairs) {
    const uint16_t both = (uint16_t)(lowest * 0x101u), mask = SOLO_PAIR_SIDE - 1;
    uint8_t least = 255;
    for (size_t k = 0; k < n; k++)
        least = run[k] < least ? run[k] : least;
    if (least < lowest)
        return 0;
    for (size_t k = 0; k < n / 2; k++) {
        const uint16_t above = (uint16_t)(zf_get16(run + 2 * k) - both), second = (uint16_t)(above >> 8);
        pairs[k] = (uint16_t)((above & mask) | (uint16_t)(second << SOLO_PAIR_BITS));
    }
    return 1;
}
/* The streams of a run of at most SOLO_BLOCK bytes and their `lengths` (u16 each); returns the bytes of the streams.  It
   may write 8 bytes more, and never more than SOLO_RUN_NBYTES. */
size_t solo_encode_run(const solo_code *code, const uint8_t *run, size_t n, uint8_t *lengths, uint8_t *out);
/* Memory that is to be written and read next: it is fetched while a run is decoded, which itself keeps within the caches.
   Payloads and targets that are in no cache take a fifth less time by it. */
typedef struct {
    uintptr_t written, written_end, read, read_end;
} solo_soon;

/* A run of at most SOLO_BLOCK bytes from the streams that lie behind each other at `in`, as long as `lengths` (u16)
   says; all lie before `end`, and nothing at or behind it is read.  NULL or what was wrong. */
const char *solo_decode_run(const solo_entry *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end,
                            uint8_t *out, size_t n, solo_soon soon);

/* Plane i of an item of w bytes is its byte i after its top `turn` bits went below the 8 bits that follow them. */
void solo_split(const uint8_t *raw, size_t n, int w, int turn, uint8_t *const planes[8]);
void solo_merge(const uint8_t *const planes[8], size_t n, int w, int turn, uint8_t *out);

#endif
