/* Tables of the bitx codec: frequencies, alias tables, and how they are written down. */
#include <math.h>

#include "bitx.h"

void bx_frame_init(bx_frame *frame, int layout, size_t items) {
    const zf_layout *fields = &zf_layouts[layout];
    memset(frame, 0, sizeof *frame);
    frame->layout = (uint8_t)layout;
    frame->item = fields->nbytes;
    frame->mantissa = fields->mantissa_bits;
    frame->exponent_mask = (uint16_t)bx_mask(fields->exponent_bits);
    frame->items = items;
    frame->blocks = items / BX_BLOCK + (items % BX_BLOCK != 0);
    frame->scale_offsets = items / BX_SCALE_OFFSET + (items % BX_SCALE_OFFSET != 0);
}

/* Vose's method in integers.  Which bucket shares with which symbol is part of the format. */
static void build_one(const uint16_t *frequency, uint8_t *divider, uint8_t *other) {
    unsigned rest[BX_SYMBOLS], small[BX_SYMBOLS], large[BX_SYMBOLS], smalls = 0, larges = 0;
    for (unsigned k = 0; k < BX_SYMBOLS; k++) {
        rest[k] = frequency[k];
        divider[k] = BX_BUCKET;
        other[k] = (uint8_t)k;
        if (rest[k] < BX_BUCKET)
            small[smalls++] = k;
        else
            large[larges++] = k;
    }
    while (smalls && larges) {
        unsigned poor = small[--smalls], rich = large[larges - 1];
        divider[poor] = (uint8_t)rest[poor];
        other[poor] = (uint8_t)rich;
        rest[rich] -= BX_BUCKET - rest[poor];
        if (rest[rich] < BX_BUCKET) {
            larges--;
            small[smalls++] = rich;
        }
    }
}

void bx_build_alias(bx_frame *frame, uint16_t (*slots)[BX_SCALE], uint16_t (*first)[BX_SYMBOLS]) {
    bx_alias *alias = &frame->alias;
    memset(alias, 0, sizeof *alias);
    for (unsigned table = 0; table < frame->tables; table++) {
        const uint16_t *frequency = frame->frequency[table];
        uint8_t divider[BX_SYMBOLS], other[BX_SYMBOLS];
        unsigned used[BX_SYMBOLS], start = 0;
        build_one(frequency, divider, other);
        for (unsigned k = 0; k < BX_SYMBOLS; k++) {
            used[k] = divider[k];
            if (first != NULL)
                first[table][k] = (uint16_t)start;
            start += frequency[k];
        }
        for (unsigned k = 0; k < BX_SYMBOLS; k++) {
            unsigned entry = table * BX_SYMBOLS + k, begin = used[other[k]];
            alias->divider[entry] = (uint16_t)(divider[k] | other[k] << 8);
            alias->frequency[entry] = frequency[k];
            if (divider[k] < BX_BUCKET) {
                alias->offset[entry] = (uint16_t)(begin - divider[k]);
                used[other[k]] += BX_BUCKET - divider[k];
            }
            if (slots == NULL)
                continue;
            for (unsigned j = 0; j < divider[k]; j++)
                slots[table][first[table][k] + j] = (uint16_t)(k * BX_BUCKET + j);
            for (unsigned j = divider[k]; j < BX_BUCKET; j++)
                slots[table][first[table][other[k]] + begin + j - divider[k]] = (uint16_t)(k * BX_BUCKET + j);
        }
    }
}

void bx_build_direct(const bx_frame *frame, uint32_t *direct_table) {
    for (unsigned entry = 0; entry < frame->tables * BX_SYMBOLS; entry++) {
        unsigned table = entry / BX_SYMBOLS, own = entry % BX_SYMBOLS;
        unsigned divider = frame->alias.divider[entry] & 255, other = frame->alias.divider[entry] >> 8;
        uint32_t *slot = direct_table + (size_t)entry * BX_BUCKET;
        const uint32_t own_part = (own - BX_ZERO) << 27 | (uint32_t)frame->frequency[table][own] << 16;
        const uint32_t other_part = (other - BX_ZERO) << 27 | (uint32_t)frame->frequency[table][other] << 16 |
                                    (uint16_t)(frame->alias.offset[entry] + divider);
        for (unsigned j = 0; j < divider; j++)
            slot[j] = own_part + j;
        for (unsigned j = divider; j < BX_BUCKET; j++)
            slot[j] = other_part + (j - divider);
    }
}

void bx_normalise(const uint32_t *count, uint16_t *frequency) {
    uint64_t total = 0;
    unsigned used = 0, most = BX_ZERO;
    memset(frequency, 0, BX_SYMBOLS * sizeof *frequency);
    for (unsigned k = 0; k < BX_SYMBOLS; k++) {
        total += count[k];
        used += count[k] != 0;
        if (count[k] > count[most])
            most = k;
    }
    if (used < 2) { /* a frequency of BX_SCALE would not fit in the arithmetic */
        frequency[most] = BX_SCALE - 1;
        frequency[most == BX_ZERO ? BX_ZERO - 1 : BX_ZERO] = 1;
        return;
    }
    int left = BX_SCALE;
    for (unsigned k = 0; k < BX_SYMBOLS; k++) {
        if (!count[k])
            continue;
        uint64_t share = ((uint64_t)count[k] * BX_SCALE + total / 2) / total;
        frequency[k] = (uint16_t)(share < 1 ? 1 : share > BX_SCALE - 1 ? BX_SCALE - 1 : share);
        left -= frequency[k];
    }
    while (left) { /* move by ones where it costs least */
        int step = left > 0 ? 1 : -1;
        double best = -INFINITY;
        unsigned at = most;
        for (unsigned k = 0; k < BX_SYMBOLS; k++) {
            if (!count[k] || (step < 0 && frequency[k] == 1) || (step > 0 && frequency[k] == BX_SCALE - 1))
                continue;
            double gain = step * (double)count[k] / (frequency[k] + 0.5 * step);
            if (gain > best) {
                best = gain;
                at = k;
            }
        }
        frequency[at] = (uint16_t)(frequency[at] + step);
        left -= step;
    }
}

void bx_put(bx_bit_writer *writer, uint64_t value, unsigned bits) {
    for (unsigned k = 0; k < bits; k++, writer->position++) {
        size_t byte = writer->position >> 3;
        if (byte >= writer->capacity) {
            writer->overrun = 1;
            return;
        }
        if (!(writer->position & 7))
            writer->bytes[byte] = 0;
        writer->bytes[byte] |= (uint8_t)((value >> k & 1) << (writer->position & 7));
    }
}

uint64_t bx_take(bx_bit_reader *reader, unsigned bits) {
    uint64_t value = 0;
    for (unsigned k = 0; k < bits; k++, reader->position++) {
        size_t byte = reader->position >> 3;
        if (byte >= reader->nbytes) {
            reader->overrun = 1;
            return 0;
        }
        value |= (uint64_t)(reader->bytes[byte] >> (reader->position & 7) & 1) << k;
    }
    return value;
}

static unsigned bit_length(uint64_t value) { return value ? 64 - (unsigned)__builtin_clzll(value) : 0; }

void bx_put_number(bx_bit_writer *writer, uint64_t value) {
    unsigned bits = bit_length(value);
    bx_put(writer, bits, 6);
    if (bits)
        bx_put(writer, value, bits - 1); /* the leading one is known */
}

uint64_t bx_take_number(bx_bit_reader *reader) {
    unsigned bits = (unsigned)bx_take(reader, 6);
    return bits ? bx_take(reader, bits - 1) | (uint64_t)1 << (bits - 1) : 0;
}

/* A bit for each symbol that occurs; then, for all of these but the last, Elias' gamma of the frequency. */
void bx_put_table(bx_bit_writer *writer, const uint16_t *frequency) {
    unsigned present = 0;
    for (unsigned k = 0; k < BX_SYMBOLS; k++)
        present |= (unsigned)(frequency[k] != 0) << k;
    bx_put(writer, present, BX_SYMBOLS);
    for (unsigned k = 0; present >> k > 1; k++) {
        if (!frequency[k])
            continue;
        unsigned bits = bit_length(frequency[k]) - 1;
        bx_put(writer, (uint64_t)1 << bits, bits + 1);
        bx_put(writer, frequency[k], bits);
    }
}

const char *bx_take_table(bx_bit_reader *reader, uint16_t *frequency) {
    unsigned present = (unsigned)bx_take(reader, BX_SYMBOLS), left = BX_SCALE, k;
    memset(frequency, 0, BX_SYMBOLS * sizeof *frequency);
    if (present < 3 || !(present & (present - 1)))
        return "a frequency table has fewer than two symbols";
    for (k = 0; present >> k > 1; k++) {
        if (!(present >> k & 1))
            continue;
        unsigned bits = 0;
        while (!bx_take(reader, 1))
            if (++bits >= BX_PRECISION || reader->overrun)
                return "a frequency is too large";
        unsigned value = 1u << bits | (unsigned)bx_take(reader, bits);
        if (value >= left)
            return "frequencies add up to too much";
        frequency[k] = (uint16_t)value;
        left -= value;
    }
    frequency[k] = (uint16_t)left;
    return reader->overrun ? "the header is cut short" : NULL;
}

size_t bx_encode_symbols(const uint8_t *symbols, size_t count, uint8_t *out) {
    enum { LANES = 4 };
    uint32_t counts[BX_SYMBOLS] = {0}, state[LANES] = {BX_LOW, BX_LOW, BX_LOW, BX_LOW};
    bx_frame frame;
    uint16_t slots[1][BX_SCALE], first[1][BX_SYMBOLS];
    for (size_t k = 0; k < count; k++)
        counts[symbols[k]]++;
    memset(&frame, 0, sizeof frame);
    frame.tables = 1;
    bx_normalise(counts, frame.frequency[0]);
    bx_build_alias(&frame, slots, first);
    bx_bit_writer writer = {out, 48, 0, 0};
    bx_put_table(&writer, frame.frequency[0]);
    size_t head = (writer.position + 7) / 8, words = 0;
    uint8_t *stream = out + head + 4 + 4 * LANES; /* forward for now, turned below */
    for (size_t k = count; k-- > 0;) {
        uint32_t *x = &state[k % LANES];
        uint32_t frequency = frame.frequency[0][symbols[k]];
        if (*x >= frequency << (32 - BX_PRECISION)) {
            zf_put16(stream + 2 * words++, (uint16_t)*x);
            *x >>= 16;
        }
        *x = (*x / frequency) << BX_PRECISION | slots[0][first[0][symbols[k]] + *x % frequency];
    }
    for (size_t k = 0; k < words / 2; k++) {
        uint16_t a = zf_get16(stream + 2 * k), b = zf_get16(stream + 2 * (words - 1 - k));
        zf_put16(stream + 2 * k, b);
        zf_put16(stream + 2 * (words - 1 - k), a);
    }
    zf_put32(out + head, (uint32_t)words);
    memcpy(out + head + 4, state, sizeof state);
    return head + 4 + 4 * LANES + 2 * words;
}

const char *bx_decode_symbols(const uint8_t **cursor, const uint8_t *end, uint8_t *symbols, size_t count) {
    enum { LANES = 4 };
    uint32_t state[LANES];
    bx_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.tables = 1;
    bx_bit_reader reader = {*cursor, (size_t)(end - *cursor), 0, 0};
    const char *wrong = bx_take_table(&reader, frame.frequency[0]);
    if (wrong)
        return wrong;
    const uint8_t *p = *cursor + (reader.position + 7) / 8;
    if (end - p < 4 + 4 * LANES)
        return "symbols are cut short";
    size_t words = zf_get32(p);
    p += 4;
    memcpy(state, p, sizeof state);
    p += sizeof state;
    for (unsigned k = 0; k < LANES; k++)
        if (state[k] < BX_LOW)
            return "symbols begin with a state that no encoder makes";
    if ((size_t)(end - p) / 2 < words)
        return "symbols are cut short";
    const uint8_t *stop = p + 2 * words;
    bx_build_alias(&frame, NULL, NULL);
    uint32_t direct_table[BX_SCALE];
    bx_build_direct(&frame, direct_table);
    for (size_t k = 0; k < count; k++) {
        uint32_t x = state[k % LANES], entry = direct_table[x & (BX_SCALE - 1)];
        symbols[k] = (uint8_t)(bx_entry_quotient(entry) + BX_ZERO);
        x = bx_entry_frequency(entry) * (x >> BX_PRECISION) + bx_entry_offset(entry);
        if (x < BX_LOW) {
            if (p == stop)
                return "symbols are cut short";
            x = x << 16 | zf_get16(p);
            p += 2;
        }
        state[k % LANES] = x;
    }
    for (unsigned k = 0; k < LANES; k++)
        if (state[k] != BX_LOW)
            return "symbols do not end as they began";
    if (p != stop)
        return "symbols have words left over";
    *cursor = stop;
    return NULL;
}
