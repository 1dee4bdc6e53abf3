/* Runs of bytes to the streams of a Huffman code and back, several at once.

   The decoder looks up several symbols at a time.  A burst of five look-ups takes at most 55 bits, which a 64-bit word
   read at any bit of a byte still holds (57 are certain). */
#include "standalone.h"

enum {
    BURST = 5,
    BURST_BITS = BURST * SA_CODE_BITS,
    BURST_ROOM = BURST * SA_MOST_SYMBOLS + 2, /* the last of five stores starts at most 24 bytes on and is 8 long */
    WORD_ROOM = 8,
    PAIRED = 1 << 10 /* pairs that are made at once */
};
_Static_assert(BURST_BITS + 7 <= 64, "a burst must fit the bits of one unaligned word");

/* A stream that is being written: the newest bits stand highest, `filled` of them are not yet stored. */
typedef struct {
    uint64_t bits;
    uint32_t filled;
    uint8_t *at;
} writer;

/* The low bits of a word hold its length, and are moved out below the bits that count: of 64 at most 51 do. */
ZF_INLINE void put_four(writer *to, const uint64_t words[256], const uint8_t *four_at) {
    uint32_t four = zf_get32(four_at);
    uint64_t a = words[four & 255], b = words[four >> 8 & 255], c = words[four >> 16 & 255], d = words[four >> 24];
    uint64_t bits = to->bits;
    bits = bits >> (a & 63) | a;
    bits = bits >> (b & 63) | b;
    bits = bits >> (c & 63) | c;
    bits = bits >> (d & 63) | d;
    to->bits = bits;
    to->filled += (uint8_t)(a + b + c + d);
    zf_put64(to->at, bits >> (64 - to->filled));
    to->at += to->filled >> 3;
    to->filled &= 7;
}

ZF_INLINE size_t put_rest(writer *to, const uint64_t words[256], const uint8_t *rest, size_t n, const uint8_t *start) {
    for (size_t k = 0; k < n; k++) {
        uint64_t word = words[rest[k]];
        to->bits = to->bits >> (word & 63) | word;
        to->filled += word & 63;
    }
    if (to->filled)
        zf_put64(to->at, to->bits >> (64 - to->filled));
    return (size_t)(to->at - start) + ((to->filled + 7) >> 3);
}

/* Two streams at once, the second of which may be shorter. */
ZF_INLINE void encode_two(const sa_code *code, const uint8_t *runs[2], const size_t n[2], uint8_t *const out[2],
                          size_t nbytes[2]) {
    const uint64_t *words = code->words;
    writer first = {0, 0, out[0]}, second = {0, 0, out[1]};
    size_t both = n[1] & ~(size_t)3, k = 0;
    for (; k < both; k += 4) {
        put_four(&first, words, runs[0] + k);
        put_four(&second, words, runs[1] + k);
    }
    nbytes[1] = put_rest(&second, words, runs[1] + k, n[1] - k, out[1]);
    for (; k + 4 <= n[0]; k += 4)
        put_four(&first, words, runs[0] + k);
    nbytes[0] = put_rest(&first, words, runs[0] + k, n[0] - k, out[0]);
}

ZF_INLINE void put_two_pairs(writer *to, const uint64_t *words, const uint16_t *pairs) {
    const uint64_t a = words[pairs[0]], b = words[pairs[1]];
    to->bits = (to->bits >> (a & 63) | a) >> (b & 63) | b;
    to->filled += (uint8_t)(a + b);
    zf_put64(to->at, to->bits >> (64 - to->filled));
    to->at += to->filled >> 3;
    to->filled &= 7;
}

/* The same by pairs, wherever the bytes allow it, for streams of a whole block. */
ZF_INLINE void encode_two_by_pairs(const sa_code *code, const uint8_t *runs[2], uint8_t *const out[2],
                                   size_t nbytes[2]) {
    uint16_t pairs[2][PAIRED];
    writer first = {0, 0, out[0]}, second = {0, 0, out[1]};
    for (size_t from = 0; from < SA_BLOCK / SA_STREAMS; from += 2 * PAIRED) {
        if (sa_pair(runs[0] + from, 2 * PAIRED, code->lowest, pairs[0]) &&
            sa_pair(runs[1] + from, 2 * PAIRED, code->lowest, pairs[1]))
            for (size_t k = 0; k < PAIRED; k += 2) {
                put_two_pairs(&first, code->pairs, pairs[0] + k);
                put_two_pairs(&second, code->pairs, pairs[1] + k);
            }
        else
            for (size_t k = from; k < from + 2 * PAIRED; k += 4) {
                put_four(&first, code->words, runs[0] + k);
                put_four(&second, code->words, runs[1] + k);
            }
    }
    nbytes[0] = put_rest(&first, code->words, NULL, 0, out[0]);
    nbytes[1] = put_rest(&second, code->words, NULL, 0, out[1]);
}

typedef struct {
    const uint8_t *in;
    size_t bit, bits_of_stream; /* from `in` on */
    uint8_t *out, *out_end;
} stream;

/* What is left of a stream after the bursts: single look-ups, then single symbols, never past either end. */
ZF_INLINE const char *finish_stream(const sa_entry *table, stream *s, const uint8_t *end) {
    size_t readable = (size_t)(end - s->in);
    while (s->out_end - s->out >= 8 && (s->bit >> 3) + WORD_ROOM <= readable) {
        sa_entry entry = table[zf_get64(s->in + (s->bit >> 3)) >> (s->bit & 7) & (SA_ENTRIES - 1)];
        zf_put64(s->out, entry >> 8);
        s->out += entry >> 60;
        s->bit += entry & 63;
    }
    while (s->out < s->out_end) {
        uint64_t word = 0;
        size_t from = s->bit >> 3;
        if (from >= readable)
            return "a stream is cut short";
        memcpy(&word, s->in + from, readable - from < WORD_ROOM ? readable - from : WORD_ROOM);
        sa_entry entry = table[word >> (s->bit & 7) & (SA_ENTRIES - 1)];
        *s->out++ = (uint8_t)(entry >> 8);
        s->bit += entry >> 56 & 15;
    }
    size_t spare = s->bits_of_stream - s->bit;
    if (s->bit > s->bits_of_stream || spare >= 8)
        return "a stream ends elsewhere than its length says";
    if (spare && s->in[s->bit >> 3] >> (s->bit & 7))
        return "a stream ends in bits that are set";
    return NULL;
}

/* How many bursts a stream can take for certain: none stores past its end of `out` or reads past `end`. */
ZF_INLINE size_t certain_bursts(const stream *s, const uint8_t *end, size_t burst_room) {
    size_t room = (size_t)(s->out_end - s->out) / burst_room, readable = (size_t)(end - s->in);
    if (readable < WORD_ROOM + (s->bit >> 3))
        return 0;
    size_t words = (8 * (readable - WORD_ROOM) + 7 - s->bit) / BURST_BITS + 1;
    return room < words ? room : words;
}

/* A burst of all streams: of whole entries, or of the first symbol of each. */
#define WORDS(k) uint64_t word##k = zf_get64(in##k + (bit##k >> 3)) >> (bit##k & 7)
#define LOOK_UP(k)                                            \
    do {                                                      \
        sa_entry entry = entries[word##k & (SA_ENTRIES - 1)]; \
        zf_put64(out##k, entry >> 8);                         \
        out##k += entry >> 60;                                \
        word##k >>= entry & 63;                               \
        bit##k += entry & 63;                                 \
    } while (0)
#define LOOK_UP_FIRST(k)                                     \
    do {                                                     \
        uint32_t first = firsts[word##k & (SA_ENTRIES - 1)]; \
        *out##k++ = (uint8_t)first;                          \
        word##k >>= first >> 8;                              \
        bit##k += first >> 8;                                \
    } while (0)
#define EACH(what) \
    what(0);       \
    what(1);       \
    what(2);       \
    what(3)
#define FIVE_OF_EACH(what) \
    EACH(what);            \
    EACH(what);            \
    EACH(what);            \
    EACH(what);            \
    EACH(what)

ZF_INLINE const char *decode_run(const sa_table *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end,
                                 uint8_t *out, size_t n, sa_soon soon) {
    stream streams[SA_STREAMS];
    int count = sa_streams(n);
    size_t items = sa_stream_items(n);
    const uint8_t *in = *at;
    for (int k = 0; k < count; k++) {
        size_t from = (size_t)k * items, to = k + 1 < count ? from + items : n, nbytes = zf_get16(lengths + 2 * k);
        if ((size_t)(end - in) < nbytes)
            return "a stream runs past the end of the payload";
        streams[k] = (stream){in, 0, 8 * nbytes, out + from, out + to};
        in += nbytes;
    }
    *at = in;
    const sa_entry *entries = table->entries;
    const uint16_t *firsts = table->firsts;
    const size_t burst_room = table->singly ? BURST : BURST_ROOM;
    while (count == SA_STREAMS) {
        size_t bursts = certain_bursts(&streams[0], end, burst_room);
        for (int k = 1; k < SA_STREAMS; k++) {
            size_t of_stream = certain_bursts(&streams[k], end, burst_room);
            bursts = of_stream < bursts ? of_stream : bursts;
        }
        if (!bursts)
            break;
        const uint8_t *in0 = streams[0].in, *in1 = streams[1].in, *in2 = streams[2].in, *in3 = streams[3].in;
        size_t bit0 = streams[0].bit, bit1 = streams[1].bit, bit2 = streams[2].bit, bit3 = streams[3].bit;
        uint8_t *out0 = streams[0].out, *out1 = streams[1].out, *out2 = streams[2].out, *out3 = streams[3].out;
        do {
            __builtin_prefetch((const void *)soon.written, 1, 2);
            __builtin_prefetch((const void *)(soon.written + 64), 1, 2);
            __builtin_prefetch((const void *)(soon.written + 128), 1, 2);
            __builtin_prefetch((const void *)soon.read, 0, 2);
            __builtin_prefetch((const void *)(soon.read + 64), 0, 2);
            soon.written += soon.written < soon.written_end ? 192 : 0;
            soon.read += soon.read < soon.read_end ? 128 : 0;
            EACH(WORDS);
            if (table->singly) {
                FIVE_OF_EACH(LOOK_UP_FIRST);
            } else {
                FIVE_OF_EACH(LOOK_UP);
            }
        } while (--bursts);
        streams[0].bit = bit0, streams[1].bit = bit1, streams[2].bit = bit2, streams[3].bit = bit3;
        streams[0].out = out0, streams[1].out = out1, streams[2].out = out2, streams[3].out = out3;
    }
    for (int k = 0; k < count; k++) {
        const char *wrong = finish_stream(entries, &streams[k], end);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

#if ZF_X86
ZF_TARGET_AVX2 static void encode_two_bmi2(const sa_code *code, const uint8_t *runs[2], const size_t n[2],
                                           uint8_t *const out[2], size_t nbytes[2]) {
    encode_two(code, runs, n, out, nbytes);
}

ZF_TARGET_AVX2 static void encode_two_by_pairs_bmi2(const sa_code *code, const uint8_t *runs[2], uint8_t *const out[2],
                                                    size_t nbytes[2]) {
    encode_two_by_pairs(code, runs, out, nbytes);
}

/* prefetchw as well, which fetches a line as its only owner; it does no harm to a processor that lacks it. */
__attribute__((target("avx2,bmi,bmi2,popcnt,prfchw"))) static const char *
decode_run_bmi2(const sa_table *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end, uint8_t *out,
                size_t n, sa_soon soon) {
    return decode_run(table, at, lengths, end, out, n, soon);
}
#endif

static void encode_streams(const sa_code *code, const uint8_t *runs[2], const size_t n[2], uint8_t *const out[2],
                           int by_pairs, size_t nbytes[2]) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2) {
        if (by_pairs)
            encode_two_by_pairs_bmi2(code, runs, out, nbytes);
        else
            encode_two_bmi2(code, runs, n, out, nbytes);
        return;
    }
#endif
    if (by_pairs)
        encode_two_by_pairs(code, runs, out, nbytes);
    else
        encode_two(code, runs, n, out, nbytes);
}

size_t sa_encode_run(const sa_code *code, const uint8_t *run, size_t n, uint8_t *lengths, uint8_t *out) {
    uint8_t second[SA_STREAM_NBYTES]; /* it starts where the first will have ended */
    const int by_pairs = code->pairs != NULL && n == SA_BLOCK;
    size_t items = sa_stream_items(n);
    uint8_t *at = out;
    while (n > 0) {
        size_t counts[2] = {items < n ? items : n, 0}, nbytes[2];
        counts[1] = n - counts[0] < items ? n - counts[0] : items;
        const uint8_t *runs[2] = {run, run + counts[0]};
        uint8_t *const outs[2] = {at, second};
        encode_streams(code, runs, counts, outs, by_pairs, nbytes);
        zf_put16(lengths, (uint16_t)nbytes[0]);
        at += nbytes[0];
        lengths += 2;
        if (counts[1]) {
            zf_put16(lengths, (uint16_t)nbytes[1]);
            memcpy(at, second, nbytes[1]);
            at += nbytes[1];
            lengths += 2;
        }
        run += counts[0] + counts[1];
        n -= counts[0] + counts[1];
    }
    return (size_t)(at - out);
}

const char *sa_decode_run(const sa_table *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end,
                          uint8_t *out, size_t n, sa_soon soon) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2)
        return decode_run_bmi2(table, at, lengths, end, out, n, soon);
#endif
    return decode_run(table, at, lengths, end, out, n, soon);
}
