/* Tables of the delta codec: frequencies, alias tables, and how they are written down. */
#include <math.h>

#include "delta.h"

void zd_frame_init(zd_frame *frame, int layout, size_t items) {
    const zf_layout *fields = &zf_layouts[layout];
    memset(frame, 0, sizeof *frame);
    frame->layout = (uint8_t)layout;
    frame->item = fields->nbytes;
    frame->mantissa = fields->mantissa_bits;
    frame->exponent_mask = (uint16_t)zd_mask(fields->exponent_bits);
    frame->items = items;
    frame->blocks = items / ZD_BLOCK + (items % ZD_BLOCK != 0);
    frame->octaves = items / ZD_OCTAVE + (items % ZD_OCTAVE != 0);
}

/* Vose's method in integers.  Which bucket shares with which symbol is part of the format. */
static void build_one(const uint16_t *frequency, uint8_t *divider, uint8_t *other) {
    unsigned rest[ZD_SYMBOLS], small[ZD_SYMBOLS], large[ZD_SYMBOLS], smalls = 0, larges = 0;
    for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
        rest[k] = frequency[k];
        divider[k] = ZD_BUCKET;
        other[k] = (uint8_t)k;
        if (rest[k] < ZD_BUCKET)
            small[smalls++] = k;
        else
            large[larges++] = k;
    }
    while (smalls && larges) {
        unsigned poor = small[--smalls], rich = large[larges - 1];
        divider[poor] = (uint8_t)rest[poor];
        other[poor] = (uint8_t)rich;
        rest[rich] -= ZD_BUCKET - rest[poor];
        if (rest[rich] < ZD_BUCKET) {
            larges--;
            small[smalls++] = rich;
        }
    }
}

void zd_build_alias(zd_frame *frame, uint16_t (*slots)[ZD_SCALE], uint16_t (*first)[ZD_SYMBOLS]) {
    zd_alias *alias = &frame->alias;
    memset(alias, 0, sizeof *alias);
    for (unsigned table = 0; table < frame->tables; table++) {
        const uint16_t *frequency = frame->frequency[table];
        uint8_t divider[ZD_SYMBOLS], other[ZD_SYMBOLS];
        unsigned used[ZD_SYMBOLS], start = 0;
        build_one(frequency, divider, other);
        for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
            used[k] = divider[k];
            if (first != NULL)
                first[table][k] = (uint16_t)start;
            start += frequency[k];
        }
        for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
            unsigned entry = table * ZD_SYMBOLS + k, begin = used[other[k]];
            alias->divider[entry] = (uint16_t)(divider[k] | other[k] << 8);
            alias->frequency[entry] = frequency[k];
            if (divider[k] < ZD_BUCKET) {
                alias->offset[entry] = (uint16_t)(begin - divider[k]);
                used[other[k]] += ZD_BUCKET - divider[k];
            }
            if (slots == NULL)
                continue;
            for (unsigned j = 0; j < divider[k]; j++)
                slots[table][first[table][k] + j] = (uint16_t)(k * ZD_BUCKET + j);
            for (unsigned j = divider[k]; j < ZD_BUCKET; j++)
                slots[table][first[table][other[k]] + begin + j - divider[k]] = (uint16_t)(k * ZD_BUCKET + j);
        }
    }
}

void zd_build_direct(const zd_frame *frame, uint32_t *direct_table) {
    for (unsigned entry = 0; entry < frame->tables * ZD_SYMBOLS; entry++) {
        unsigned table = entry / ZD_SYMBOLS, own = entry % ZD_SYMBOLS;
        unsigned divider = frame->alias.divider[entry] & 255, other = frame->alias.divider[entry] >> 8;
        uint32_t *slot = direct_table + (size_t)entry * ZD_BUCKET;
        const uint32_t own_part = (own - ZD_ZERO) << 27 | (uint32_t)frame->frequency[table][own] << 16;
        const uint32_t other_part = (other - ZD_ZERO) << 27 | (uint32_t)frame->frequency[table][other] << 16 |
                                    (uint16_t)(frame->alias.offset[entry] + divider);
        for (unsigned j = 0; j < divider; j++)
            slot[j] = own_part + j;
        for (unsigned j = divider; j < ZD_BUCKET; j++)
            slot[j] = other_part + (j - divider);
    }
}

void zd_normalise(const uint32_t *count, uint16_t *frequency) {
    uint64_t total = 0;
    unsigned used = 0, most = ZD_ZERO;
    memset(frequency, 0, ZD_SYMBOLS * sizeof *frequency);
    for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
        total += count[k];
        used += count[k] != 0;
        if (count[k] > count[most])
            most = k;
    }
    if (used < 2) { /* a frequency of ZD_SCALE would not fit in the arithmetic */
        frequency[most] = ZD_SCALE - 1;
        frequency[most == ZD_ZERO ? ZD_ZERO - 1 : ZD_ZERO] = 1;
        return;
    }
    int left = ZD_SCALE;
    for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
        if (!count[k])
            continue;
        uint64_t share = ((uint64_t)count[k] * ZD_SCALE + total / 2) / total;
        frequency[k] = (uint16_t)(share < 1 ? 1 : share > ZD_SCALE - 1 ? ZD_SCALE - 1 : share);
        left -= frequency[k];
    }
    while (left) { /* move by ones where it costs least */
        int step = left > 0 ? 1 : -1;
        double best = -INFINITY;
        unsigned at = most;
        for (unsigned k = 0; k < ZD_SYMBOLS; k++) {
            if (!count[k] || (step < 0 && frequency[k] == 1) || (step > 0 && frequency[k] == ZD_SCALE - 1))
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

void zd_put(zd_bit_writer *writer, uint64_t value, unsigned bits) {
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

uint64_t zd_take(zd_bit_reader *reader, unsigned bits) {
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

void zd_put_number(zd_bit_writer *writer, uint64_t value) {
    unsigned bits = bit_length(value);
    zd_put(writer, bits, 6);
    if (bits)
        zd_put(writer, value, bits - 1); /* the leading one is known */
}

uint64_t zd_take_number(zd_bit_reader *reader) {
    unsigned bits = (unsigned)zd_take(reader, 6);
    return bits ? zd_take(reader, bits - 1) | (uint64_t)1 << (bits - 1) : 0;
}

/* A bit for each symbol that occurs; then, for all of these but the last, Elias' gamma of the frequency. */
void zd_put_table(zd_bit_writer *writer, const uint16_t *frequency) {
    unsigned present = 0;
    for (unsigned k = 0; k < ZD_SYMBOLS; k++)
        present |= (unsigned)(frequency[k] != 0) << k;
    zd_put(writer, present, ZD_SYMBOLS);
    for (unsigned k = 0; present >> k > 1; k++) {
        if (!frequency[k])
            continue;
        unsigned bits = bit_length(frequency[k]) - 1;
        zd_put(writer, (uint64_t)1 << bits, bits + 1);
        zd_put(writer, frequency[k], bits);
    }
}

const char *zd_take_table(zd_bit_reader *reader, uint16_t *frequency) {
    unsigned present = (unsigned)zd_take(reader, ZD_SYMBOLS), left = ZD_SCALE, k;
    memset(frequency, 0, ZD_SYMBOLS * sizeof *frequency);
    if (present < 3 || !(present & (present - 1)))
        return "a frequency table has fewer than two symbols";
    for (k = 0; present >> k > 1; k++) {
        if (!(present >> k & 1))
            continue;
        unsigned bits = 0;
        while (!zd_take(reader, 1))
            if (++bits >= ZD_PRECISION || reader->overrun)
                return "a frequency is too large";
        unsigned value = 1u << bits | (unsigned)zd_take(reader, bits);
        if (value >= left)
            return "frequencies add up to too much";
        frequency[k] = (uint16_t)value;
        left -= value;
    }
    frequency[k] = (uint16_t)left;
    return reader->overrun ? "the header is cut short" : NULL;
}

size_t zd_encode_symbols(const uint8_t *symbols, size_t count, uint8_t *out) {
    enum { LANES = 4 };
    uint32_t counts[ZD_SYMBOLS] = {0}, state[LANES] = {ZD_LOW, ZD_LOW, ZD_LOW, ZD_LOW};
    zd_frame frame;
    uint16_t slots[1][ZD_SCALE], first[1][ZD_SYMBOLS];
    for (size_t k = 0; k < count; k++)
        counts[symbols[k]]++;
    memset(&frame, 0, sizeof frame);
    frame.tables = 1;
    zd_normalise(counts, frame.frequency[0]);
    zd_build_alias(&frame, slots, first);
    zd_bit_writer writer = {out, 48, 0, 0};
    zd_put_table(&writer, frame.frequency[0]);
    size_t head = (writer.position + 7) / 8, words = 0;
    uint8_t *stream = out + head + 4 + 4 * LANES; /* forward for now, turned below */
    for (size_t k = count; k-- > 0;) {
        uint32_t *x = &state[k % LANES];
        uint32_t frequency = frame.frequency[0][symbols[k]];
        if (*x >= frequency << (32 - ZD_PRECISION)) {
            zf_put16(stream + 2 * words++, (uint16_t)*x);
            *x >>= 16;
        }
        *x = (*x / frequency) << ZD_PRECISION | slots[0][first[0][symbols[k]] + *x % frequency];
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

const char *zd_decode_symbols(const uint8_t **cursor, const uint8_t *end, uint8_t *symbols, size_t count) {
    enum { LANES = 4 };
    uint32_t state[LANES];
    zd_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.tables = 1;
    zd_bit_reader reader = {*cursor, (size_t)(end - *cursor), 0, 0};
    const char *wrong = zd_take_table(&reader, frame.frequency[0]);
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
        if (state[k] < ZD_LOW)
            return "symbols begin with a state that no encoder makes";
    if ((size_t)(end - p) / 2 < words)
        return "symbols are cut short";
    const uint8_t *stop = p + 2 * words;
    zd_build_alias(&frame, NULL, NULL);
    uint32_t direct_table[ZD_SCALE];
    zd_build_direct(&frame, direct_table);
    for (size_t k = 0; k < count; k++) {
        uint32_t x = state[k % LANES], entry = direct_table[x & (ZD_SCALE - 1)];
        symbols[k] = (uint8_t)(zd_entry_quotient(entry) + ZD_ZERO);
        x = zd_entry_frequency(entry) * (x >> ZD_PRECISION) + zd_entry_offset(entry);
        if (x < ZD_LOW) {
            if (p == stop)
                return "symbols are cut short";
            x = x << 16 | zf_get16(p);
            p += 2;
        }
        state[k % LANES] = x;
    }
    for (unsigned k = 0; k < LANES; k++)
        if (state[k] != ZD_LOW)
            return "symbols do not end as they began";
    if (p != stop)
        return "symbols have words left over";
    *cursor = stop;
    return NULL;
}
