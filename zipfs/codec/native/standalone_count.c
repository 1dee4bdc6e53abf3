/* How often bytes occur.  Where they differ by less than 64, as exponents of weights do, pairs are counted: half as many
   sums. */
#include "standalone.h"

enum { PAIRED_NBYTES = 1 << 12, COUNTED_BY_PAIRS = 1 << 15 };

ZF_INLINE void count_parts(const uint8_t *run, size_t n, uint32_t parts[8][256]) {
    for (size_t k = 0; k < n; k += 8) {
        uint64_t eight = zf_get64(run + k);
        for (int part = 0; part < 8; part++)
            parts[part][eight >> 8 * part & 255]++;
    }
}

ZF_INLINE void add_parts(uint32_t parts[8][256], uint32_t counts[256]) {
    for (int symbol = 0; symbol < 256; symbol++)
        for (int part = 0; part < 8; part++)
            counts[symbol] += parts[part][symbol];
}

void sa_count_some(const uint8_t *run, size_t n, size_t step, uint32_t counts[256]) {
    uint32_t parts[8][256]; /* equal neighbours would wait for each other's sum */
    memset(parts, 0, sizeof parts);
    memset(counts, 0, 256 * sizeof *counts);
    for (size_t from = 0; from < n; from += step) {
        size_t here = n - from < SA_COUNTED ? n - from : SA_COUNTED;
        count_parts(run + from, here & ~(size_t)7, parts);
        for (size_t k = here & ~(size_t)7; k < here; k++)
            counts[run[from + k]]++;
    }
    add_parts(parts, counts);
}

void sa_count(const uint8_t *run, size_t n, uint32_t counts[256]) {
    uint8_t highest = 0;
    if (n < COUNTED_BY_PAIRS) {
        sa_count_some(run, n, SA_COUNTED, counts);
        return;
    }
    for (size_t k = 0; k < n; k++)
        highest = run[k] > highest ? run[k] : highest;
    const uint8_t lowest = sa_lowest(highest);
    uint32_t parts[8][256], both[2][SA_PAIRS];
    uint16_t pairs[PAIRED_NBYTES / 2];
    memset(parts, 0, sizeof parts);
    memset(both, 0, sizeof both);
    memset(counts, 0, 256 * sizeof *counts);
    size_t from = 0;
    for (; from + PAIRED_NBYTES <= n; from += PAIRED_NBYTES) {
        if (!sa_pair(run + from, PAIRED_NBYTES, lowest, pairs)) {
            count_parts(run + from, PAIRED_NBYTES, parts);
            continue;
        }
        for (size_t k = 0; k < PAIRED_NBYTES / 2; k += 4) {
            uint64_t four;
            memcpy(&four, pairs + k, sizeof four);
            both[0][four & 0xFFFF]++;
            both[1][four >> 16 & 0xFFFF]++;
            both[0][four >> 32 & 0xFFFF]++;
            both[1][four >> 48]++;
        }
    }
    for (; from < n; from++)
        counts[run[from]]++;
    add_parts(parts, counts);
    for (size_t pair = 0; pair < SA_PAIRS; pair++) {
        const uint32_t sum = both[0][pair] + both[1][pair];
        counts[lowest + pair % SA_PAIR_SIDE] += sum;
        counts[lowest + pair / SA_PAIR_SIDE] += sum;
    }
}
