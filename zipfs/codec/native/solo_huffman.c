/* The Huffman code of the solo codec: lengths, their table, and streams that are looked up several symbols at a time.

   Code words are canonical (shorter first, then by byte value) and stand first bit lowest, so that the low 11 bits of
   what is left of a stream are an index.  A burst of five look-ups takes at most 55 bits, which a 64-bit word read at any
   bit of a byte still holds (57 are certain). */
#include "solo.h"

enum {
    BURST = 5,
    MOST_SYMBOLS = 6,
    BURST_BITS = BURST * SOLO_CODE_BITS,
    BURST_ROOM = BURST * MOST_SYMBOLS + 2, /* the last of five stores starts at most 24 bytes on and is 8 long */
    WORD_ROOM = 8
};
_Static_assert(BURST_BITS + 7 <= 64, "a burst must fit the bits of one unaligned word");
_Static_assert(MOST_SYMBOLS * 8 + 8 <= 56, "symbols lie between two fields of an entry");

/* Package-merge (Larmore and Hirschberg, 1990): level by level the two cheapest of symbols and pairs are paired. */
void solo_make_lengths(const uint32_t counts[256], uint8_t lengths[256]) {
    uint16_t symbols[256];
    uint64_t weights[256], merged[2][512], *now = merged[0], *before = merged[1];
    uint8_t is_symbol[SOLO_CODE_BITS][512];
    int n = 0, in_before = 0;
    memset(lengths, 0, 256);
    for (int symbol = 0; symbol < 256; symbol++) {
        if (!counts[symbol])
            continue;
        int at = n++;
        for (; at > 0 && weights[at - 1] > counts[symbol]; at--) {
            weights[at] = weights[at - 1];
            symbols[at] = symbols[at - 1];
        }
        weights[at] = counts[symbol];
        symbols[at] = (uint16_t)symbol;
    }
    for (int level = 0; level < SOLO_CODE_BITS; level++) {
        int pairs = in_before / 2, next_pair = 0, next_symbol = 0;
        for (int k = 0; k < n + pairs; k++) {
            int take_symbol = next_pair == pairs;
            if (!take_symbol && next_symbol < n)
                take_symbol = weights[next_symbol] <= before[2 * next_pair] + before[2 * next_pair + 1];
            is_symbol[level][k] = (uint8_t)take_symbol;
            if (take_symbol) {
                now[k] = weights[next_symbol++];
            } else {
                now[k] = before[2 * next_pair] + before[2 * next_pair + 1];
                next_pair++;
            }
        }
        in_before = n + pairs;
        uint64_t *spare = before;
        before = now;
        now = spare;
    }
    for (int level = SOLO_CODE_BITS - 1, chosen = 2 * n - 2; level >= 0 && chosen > 0; level--) {
        int of_symbols = 0;
        for (int k = 0; k < chosen; k++)
            of_symbols += is_symbol[level][k];
        for (int k = 0; k < of_symbols; k++)
            lengths[symbols[k]]++;
        chosen = 2 * (chosen - of_symbols);
    }
}

static uint32_t reversed(uint32_t word, int length) {
    uint32_t turned = 0;
    for (int bit = 0; bit < length; bit++)
        turned |= (word >> bit & 1) << (length - 1 - bit);
    return turned;
}

/* The symbols in the order of their code words; returns how many, and whether the code is complete. */
static int in_order(const uint8_t lengths[256], uint8_t order[256], int *complete) {
    uint32_t starts[SOLO_CODE_BITS + 2] = {0}, kraft = 0;
    for (int symbol = 0; symbol < 256; symbol++)
        if (lengths[symbol]) {
            starts[lengths[symbol] + 1]++;
            kraft += (uint32_t)SOLO_ENTRIES >> lengths[symbol];
        }
    for (int length = 1; length <= SOLO_CODE_BITS + 1; length++)
        starts[length] += starts[length - 1];
    for (int symbol = 0; symbol < 256; symbol++)
        if (lengths[symbol])
            order[starts[lengths[symbol]]++] = (uint8_t)symbol;
    *complete = kraft == SOLO_ENTRIES;
    return (int)starts[SOLO_CODE_BITS + 1];
}

void solo_make_words(solo_code *code) {
    uint8_t order[256];
    uint32_t word = 0;
    int complete, length = 0, n = in_order(code->lengths, order, &complete);
    memset(code->words, 0, sizeof code->words);
    for (int k = 0; k < n; k++, word++) {
        word <<= code->lengths[order[k]] - length;
        length = code->lengths[order[k]];
        code->words[order[k]] = (uint64_t)reversed(word, length) << (64 - length) | (uint64_t)length;
    }
}

int solo_make_table(const uint8_t lengths[256], solo_entry table[SOLO_ENTRIES]) {
    uint8_t order[256];
    uint16_t first[SOLO_ENTRIES]; /* length << 8 | symbol */
    uint32_t word = 0;
    int complete, length = 0, n = in_order(lengths, order, &complete);
    if (!complete || n < 2)
        return 0;
    for (int k = 0; k < n; k++, word++) {
        word <<= lengths[order[k]] - length;
        length = lengths[order[k]];
        for (uint32_t index = reversed(word, length); index < SOLO_ENTRIES; index += 1u << length)
            first[index] = (uint16_t)(length << 8 | order[k]);
    }
    for (uint32_t index = 0; index < SOLO_ENTRIES; index++) {
        uint32_t used = first[index] >> 8, symbols = 1;
        solo_entry entry = (solo_entry)(first[index] & 255) << 8 | (solo_entry)used << 56;
        while (symbols < MOST_SYMBOLS) {
            uint32_t next = first[index >> used];
            if (used + (next >> 8) > SOLO_CODE_BITS)
                break;
            entry |= (solo_entry)(next & 255) << (8 + 8 * symbols++);
            used += next >> 8;
        }
        table[index] = entry | used | (solo_entry)symbols << 60;
    }
    return 1;
}

/* Nibbles, low one first: 0 the next byte does not occur; 1-11 its length; 12 n: n + 2 bytes do not occur; 13 h l:
   16 h + l + 18 do not; until there are 256.  An odd count is filled up with 0. */
size_t solo_put_lengths(const uint8_t lengths[256], uint8_t *out) {
    uint8_t nibbles[2 * SOLO_LENGTHS_NBYTES + 1];
    size_t count = 0;
    for (int symbol = 0; symbol < 256;) {
        int run = 0;
        while (symbol + run < 256 && !lengths[symbol + run])
            run++;
        if (run >= 18) {
            nibbles[count++] = 13;
            nibbles[count++] = (uint8_t)((run - 18) >> 4);
            nibbles[count++] = (uint8_t)((run - 18) & 15);
        } else if (run >= 2) {
            nibbles[count++] = 12;
            nibbles[count++] = (uint8_t)(run - 2);
        } else {
            nibbles[count++] = lengths[symbol];
            run = 1;
        }
        symbol += run;
    }
    nibbles[count] = 0;
    for (size_t k = 0; k < count; k += 2)
        out[k / 2] = (uint8_t)(nibbles[k] | nibbles[k + 1] << 4);
    return (count + 1) / 2;
}

/* Behind the end there are only nibbles that end a table as a wrong one. */
static uint32_t get_nibble(const uint8_t *in, size_t at, size_t most) {
    return at < most ? (uint32_t)in[at / 2] >> (at % 2 * 4) & 15 : 15;
}

size_t solo_get_lengths(const uint8_t *in, size_t nbytes, uint8_t lengths[256]) {
    size_t at = 0, most = nbytes < SOLO_LENGTHS_NBYTES ? 2 * nbytes : 2 * SOLO_LENGTHS_NBYTES;
    int symbol = 0;
    memset(lengths, 0, 256);
    while (symbol < 256) {
        uint32_t nibble = get_nibble(in, at++, most);
        if (nibble <= SOLO_CODE_BITS) {
            lengths[symbol++] = (uint8_t)nibble;
            continue;
        }
        uint32_t first = get_nibble(in, at++, most);
        if (nibble == 12) {
            symbol += (int)first + 2;
        } else if (nibble == 13) {
            symbol += (int)(first << 4 | get_nibble(in, at++, most)) + 18;
        } else {
            return 0;
        }
    }
    if (symbol > 256 || at > most || (at % 2 && get_nibble(in, at, most)))
        return 0;
    return (at + 1) / 2;
}

ZF_INLINE void count_parts(const uint8_t *run, size_t n, uint32_t parts[8][256]) {
    for (size_t k = 0; k < n; k += 8) {
        uint64_t eight = zf_get64(run + k);
        for (int part = 0; part < 8; part++)
            parts[part][eight >> 8 * part & 255]++;
    }
}

void solo_count(const uint8_t *run, size_t n, size_t step, uint32_t counts[256]) {
    uint32_t parts[8][256]; /* equal neighbours would wait for each other's sum */
    memset(parts, 0, sizeof parts);
    for (size_t from = 0; from < n; from += step) {
        size_t here = n - from < SOLO_COUNTED ? n - from : SOLO_COUNTED;
        count_parts(run + from, here & ~(size_t)7, parts);
        for (size_t k = here & ~(size_t)7; k < here; k++)
            parts[0][run[from + k]]++;
    }
    for (int symbol = 0; symbol < 256; symbol++) {
        counts[symbol] = 0;
        for (int part = 0; part < 8; part++)
            counts[symbol] += parts[part][symbol];
    }
}

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
ZF_INLINE void encode_two(const uint64_t words[256], const uint8_t *runs[2], const size_t n[2], uint8_t *const out[2],
                          size_t nbytes[2]) {
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

typedef struct {
    const uint8_t *in;
    size_t bit, bits_of_stream; /* from `in` on */
    uint8_t *out, *out_end;
} stream;

/* What is left of a stream after the bursts: single look-ups, then single symbols, never past either end. */
ZF_INLINE const char *finish_stream(const solo_entry *table, stream *s, const uint8_t *end) {
    size_t readable = (size_t)(end - s->in);
    while (s->out_end - s->out >= 8 && (s->bit >> 3) + WORD_ROOM <= readable) {
        solo_entry entry = table[zf_get64(s->in + (s->bit >> 3)) >> (s->bit & 7) & (SOLO_ENTRIES - 1)];
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
        solo_entry entry = table[word >> (s->bit & 7) & (SOLO_ENTRIES - 1)];
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
ZF_INLINE size_t certain_bursts(const stream *s, const uint8_t *end) {
    size_t room = (size_t)(s->out_end - s->out) / BURST_ROOM, readable = (size_t)(end - s->in);
    if (readable < WORD_ROOM + (s->bit >> 3))
        return 0;
    size_t words = (8 * (readable - WORD_ROOM) + 7 - s->bit) / BURST_BITS + 1;
    return room < words ? room : words;
}

ZF_INLINE const char *decode_run(const solo_entry *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end,
                                 uint8_t *out, size_t n, solo_soon soon) {
    stream streams[SOLO_STREAMS];
    int count = solo_streams(n);
    size_t items = solo_stream_items(n);
    const uint8_t *in = *at;
    for (int k = 0; k < count; k++) {
        size_t from = (size_t)k * items, to = k + 1 < count ? from + items : n, nbytes = zf_get16(lengths + 2 * k);
        if ((size_t)(end - in) < nbytes)
            return "a stream runs past the end of the payload";
        streams[k] = (stream){in, 0, 8 * nbytes, out + from, out + to};
        in += nbytes;
    }
    *at = in;
    while (count == SOLO_STREAMS) {
        size_t bursts = certain_bursts(&streams[0], end);
        for (int k = 1; k < SOLO_STREAMS; k++) {
            size_t of_stream = certain_bursts(&streams[k], end);
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
            uint64_t word0 = zf_get64(in0 + (bit0 >> 3)) >> (bit0 & 7), word1 = zf_get64(in1 + (bit1 >> 3)) >> (bit1 & 7);
            uint64_t word2 = zf_get64(in2 + (bit2 >> 3)) >> (bit2 & 7), word3 = zf_get64(in3 + (bit3 >> 3)) >> (bit3 & 7);
#define LOOK_UP(k) \
    do { \
        solo_entry entry = table[word##k & (SOLO_ENTRIES - 1)]; \
        zf_put64(out##k, entry >> 8); \
        out##k += entry >> 60; \
        word##k >>= entry & 63; \
        bit##k += entry & 63; \
    } while (0)
#define LOOK_UPS LOOK_UP(0); LOOK_UP(1); LOOK_UP(2); LOOK_UP(3)
            LOOK_UPS;
            LOOK_UPS;
            LOOK_UPS;
            LOOK_UPS;
            LOOK_UPS;
#undef LOOK_UPS
#undef LOOK_UP
        } while (--bursts);
        streams[0].bit = bit0, streams[1].bit = bit1, streams[2].bit = bit2, streams[3].bit = bit3;
        streams[0].out = out0, streams[1].out = out1, streams[2].out = out2, streams[3].out = out3;
    }
    for (int k = 0; k < count; k++) {
        const char *wrong = finish_stream(table, &streams[k], end);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

#if ZF_X86
ZF_TARGET_AVX2 static void encode_two_bmi2(const uint64_t words[256], const uint8_t *runs[2], const size_t n[2],
                                           uint8_t *const out[2], size_t nbytes[2]) {
    encode_two(words, runs, n, out, nbytes);
}

/* prefetchw as well, which fetches a line as its only owner; it does no harm to a processor that lacks it. */
__attribute__((target("avx2,bmi,bmi2,popcnt,prfchw"))) static const char *
decode_run_bmi2(const solo_entry *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end, uint8_t *out,
                size_t n, solo_soon soon) {
    return decode_run(table, at, lengths, end, out, n, soon);
}
#endif

size_t solo_encode_run(const solo_code *code, const uint8_t *run, size_t n, uint8_t *lengths, uint8_t *out) {
    uint8_t second[SOLO_STREAM_NBYTES]; /* it starts where the first will have ended */
    size_t items = solo_stream_items(n);
    uint8_t *at = out;
    while (n > 0) {
        size_t counts[2] = {items < n ? items : n, 0}, nbytes[2];
        counts[1] = n - counts[0] < items ? n - counts[0] : items;
        const uint8_t *runs[2] = {run, run + counts[0]};
        uint8_t *const outs[2] = {at, second};
#if ZF_X86
        if (zf_isa() >= ZF_AVX2)
            encode_two_bmi2(code->words, runs, counts, outs, nbytes);
        else
#endif
            encode_two(code->words, runs, counts, outs, nbytes);
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

const char *solo_decode_run(const solo_entry *table, const uint8_t **at, const uint8_t *lengths, const uint8_t *end,
                            uint8_t *out, size_t n, solo_soon soon) {
#if ZF_X86
    if (zf_isa() >= ZF_AVX2)
        return decode_run_bmi2(table, at, lengths, end, out, n, soon);
#endif
    return decode_run(table, at, lengths, end, out, n, soon);
}
