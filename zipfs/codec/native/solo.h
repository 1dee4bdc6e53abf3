/* Parts of the solo codec: the Huffman code of a run of bytes, and items taken apart into planes and put together. */
#ifndef ZF_SOLO_H
#define ZF_SOLO_H

#include "common.h"

enum {
    SOLO_CODE_BITS = 11,               /* longest code word, and width of the look-up */
    SOLO_ENTRIES = 1 << SOLO_CODE_BITS,
    SOLO_STREAMS = 4,                  /* decoded side by side, because one alone waits for its own look-ups */
    SOLO_BLOCK = 1 << 16,              /* items decoded at once: their planes stay in the level 2 cache */
    SOLO_ONE_STREAM = 1 << 12,         /* a run that is shorter is one stream: three lengths saved, no time worth it */
    SOLO_STREAM_NBYTES = SOLO_BLOCK / SOLO_STREAMS * SOLO_CODE_BITS / 8 + 16, /* room for any stream, and for a word more */
    SOLO_LENGTHS_NBYTES = 128          /* the longest table of code lengths */
};

/* A code: for every byte its code word, first bit lowest, shifted left by 8, and its length (0: does not occur). */
typedef struct {
    uint8_t lengths[256];
    uint32_t words[256];
} solo_code;

/* An entry of the look-up: bits 0-5 bits used by all its symbols, 8-55 up to six symbols, 56-59 bits used by the first,
   60-63 how many symbols. */
typedef uint64_t solo_entry;

/* Optimal lengths of at most SOLO_CODE_BITS for at least two bytes that occur. */
void solo_make_lengths(const uint32_t counts[256], uint8_t lengths[256]);
void solo_make_words(solo_code *code);
/* Whether the lengths are those of a complete code; only then the table is filled. */
int solo_make_table(const uint8_t lengths[256], solo_entry table[SOLO_ENTRIES]);

/* The lengths as stored, at most SOLO_LENGTHS_NBYTES; returns how many bytes. */
size_t solo_put_lengths(const uint8_t lengths[256], uint8_t *out);
/* Returns how many bytes were read, or 0 if they are no table. */
size_t solo_get_lengths(const uint8_t *in, size_t nbytes, uint8_t lengths[256]);

/* Into how many streams a run of n bytes is cut, and the length of each but the last. */
ZF_INLINE int solo_streams(size_t n) { return n < SOLO_ONE_STREAM ? 1 : SOLO_STREAMS; }
ZF_INLINE size_t solo_stream_items(size_t n) { return n < SOLO_ONE_STREAM ? n : (n + SOLO_STREAMS - 1) / SOLO_STREAMS; }

void solo_count(const uint8_t *run, size_t n, uint32_t counts[256]);
/* One stream; writes at most n * SOLO_CODE_BITS / 8 + 8 bytes, returns how many count. */
size_t solo_encode_stream(const solo_code *code, const uint8_t *run, size_t n, uint8_t *out);
/* A run of at most SOLO_BLOCK bytes from the streams that lie behind each other at `in`, as long as `lengths` (u16)
   says; all lie before `end`, and nothing at or behind it is read.  NULL or what was wrong. */
const char *solo_decode_run(const solo_entry *table, const uint8_t *in, const uint8_t *lengths, const uint8_t *end,
                            uint8_t *out, size_t n);

/* Plane i of an item of w bytes is its byte i after its top `turn` bits went below the 8 bits that follow them. */
void solo_split(const uint8_t *raw, size_t n, int w, int turn, uint8_t *const planes[8]);
void solo_merge(const uint8_t *const planes[8], size_t n, int w, int turn, uint8_t *out);

#endif
