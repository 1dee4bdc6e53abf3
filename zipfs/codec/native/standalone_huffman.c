/* The Huffman code of the standalone codec: lengths, their table, code words and the look-up of a decoder.

   Code words are canonical (shorter first, then by byte value) and stand first bit lowest, so that the low 11 bits of
   what is left of a stream are an index. */
#include "standalone.h"

_Static_assert(SA_MOST_SYMBOLS * 8 + 8 <= 56, "symbols lie between two fields of an entry");

/* Package-merge (Larmore and Hirschberg, 1990): level by level the two cheapest of symbols and pairs are paired. */
void sa_make_lengths(const uint32_t counts[256], uint8_t lengths[256]) {
    uint16_t symbols[256];
    uint64_t weights[256], merged[2][512], *now = merged[0], *before = merged[1];
    uint8_t is_symbol[SA_CODE_BITS][512];
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
    for (int level = 0; level < SA_CODE_BITS; level++) {
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
    for (int level = SA_CODE_BITS - 1, chosen = 2 * n - 2; level >= 0 && chosen > 0; level--) {
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
    uint32_t starts[SA_CODE_BITS + 2] = {0}, kraft = 0;
    for (int symbol = 0; symbol < 256; symbol++)
        if (lengths[symbol]) {
            starts[lengths[symbol] + 1]++;
            kraft += (uint32_t)SA_ENTRIES >> lengths[symbol];
        }
    for (int length = 1; length <= SA_CODE_BITS + 1; length++)
        starts[length] += starts[length - 1];
    for (int symbol = 0; symbol < 256; symbol++)
        if (lengths[symbol])
            order[starts[lengths[symbol]]++] = (uint8_t)symbol;
    *complete = kraft == SA_ENTRIES;
    return (int)starts[SA_CODE_BITS + 1];
}

void sa_make_words(sa_code *code) {
    uint8_t order[256];
    uint32_t word = 0;
    int complete, length = 0, n = in_order(code->lengths, order, &complete);
    memset(code->words, 0, sizeof code->words);
    code->pairs = NULL;
    for (int k = 0; k < n; k++, word++) {
        word <<= code->lengths[order[k]] - length;
        length = code->lengths[order[k]];
        code->words[order[k]] = (uint64_t)reversed(word, length) << (64 - length) | (uint64_t)length;
    }
}

void sa_make_pairs(sa_code *code, uint64_t pairs[SA_PAIRS]) {
    uint8_t highest = 255;
    while (highest > 0 && !code->lengths[highest])
        highest--;
    code->lowest = sa_lowest(highest);
    code->pairs = pairs;
    const uint64_t *words = code->words + code->lowest;
    for (int second = 0; second < SA_PAIR_SIDE; second++)
        for (int first = 0; first < SA_PAIR_SIDE; first++) {
            const uint64_t a = words[first], b = words[second], length = 63;
            pairs[second * SA_PAIR_SIDE + first] = ((a & ~length) >> (b & length) | b) + (a & length);
        }
}

int sa_make_table(const uint8_t lengths[256], sa_table *table) {
    uint8_t order[256];
    uint16_t *first = table->firsts;
    size_t all = 0;
    uint32_t word = 0;
    int complete, length = 0, n = in_order(lengths, order, &complete);
    if (!complete || n < 2)
        return 0;
    for (int k = 0; k < n; k++, word++) {
        word <<= lengths[order[k]] - length;
        length = lengths[order[k]];
        for (uint32_t index = reversed(word, length); index < SA_ENTRIES; index += 1u << length)
            first[index] = (uint16_t)(length << 8 | order[k]);
    }
    for (uint32_t index = 0; index < SA_ENTRIES; index++) {
        uint32_t used = first[index] >> 8, symbols = 1;
        sa_entry entry = (sa_entry)(first[index] & 255) << 8 | (sa_entry)used << 56;
        while (symbols < SA_MOST_SYMBOLS) {
            uint32_t next = first[index >> used];
            if (used + (next >> 8) > SA_CODE_BITS)
                break;
            entry |= (sa_entry)(next & 255) << (8 + 8 * symbols++);
            used += next >> 8;
        }
        table->entries[index] = entry | used | (sa_entry)symbols << 60;
        all += symbols;
    }
    table->singly = all < SA_ENTRIES + SA_ENTRIES / 3;
    return 1;
}

/* Nibbles, low one first: 0 the next byte does not occur; 1-11 its length; 12 n: n + 2 bytes do not occur; 13 h l:
   16 h + l + 18 do not; until there are 256.  An odd count is filled up with 0. */
size_t sa_put_lengths(const uint8_t lengths[256], uint8_t *out) {
    uint8_t nibbles[2 * SA_LENGTHS_NBYTES + 1];
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

size_t sa_get_lengths(const uint8_t *in, size_t nbytes, uint8_t lengths[256]) {
    size_t at = 0, most = nbytes < SA_LENGTHS_NBYTES ? 2 * nbytes : 2 * SA_LENGTHS_NBYTES;
    int symbol = 0;
    memset(lengths, 0, 256);
    while (symbol < 256) {
        uint32_t nibble = get_nibble(in, at++, most);
        if (nibble <= SA_CODE_BITS) {
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
