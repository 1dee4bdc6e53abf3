/* The search for minhash samples: signs are gathered to words of 64, and a hash of every run of 48 is compared. */
#include "minhash.h"

enum { LEAST_OF_EITHER = 4 };

ZF_INLINE uint64_t some_signs(const uint8_t *items, size_t count, int item_nbytes) {
    uint64_t signs = 0;
    for (size_t i = 0; i < count; i++)
        signs |= (uint64_t)(items[(i + 1) * (size_t)item_nbytes - 1] >> 7) << i;
    return signs;
}

#if ZF_X86
ZF_INLINE __m128i load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }
ZF_INLINE uint64_t mask(__m128i bytes) { return (uint64_t)(uint32_t)_mm_movemask_epi8(bytes); }

ZF_INLINE __m128i words_to_bytes(const uint8_t *p) { return _mm_packs_epi16(load(p), load(p + 16)); }

ZF_INLINE __m128i longs_to_bytes(const uint8_t *p) {
    return _mm_packs_epi16(_mm_packs_epi32(load(p), load(p + 16)), _mm_packs_epi32(load(p + 32), load(p + 48)));
}

ZF_INLINE uint64_t signs_of_64(const uint8_t *p, int item_nbytes) {
    uint64_t signs = 0;
    for (int part = 0; part < 4; part++) {
        uint64_t found;
        if (item_nbytes == 1)
            found = mask(load(p + 16 * part));
        else if (item_nbytes == 2)
            found = mask(words_to_bytes(p + 32 * part));
        else if (item_nbytes == 4)
            found = mask(longs_to_bytes(p + 64 * part));
        else
            found = some_signs(p + 128 * part, 16, 8);
        signs |= found << (16 * part);
    }
    return signs;
}
#else
ZF_INLINE uint64_t signs_of_64(const uint8_t *p, int item_nbytes) { return some_signs(p, 64, item_nbytes); }
#endif

ZF_INLINE uint64_t mix(uint64_t signs) {
    signs *= 0x9e3779b97f4a7c15u;
    signs ^= signs >> 32;
    signs *= 0xd6e8feb86659fd93u;
    return signs ^ signs >> 32;
}

ZF_INLINE size_t search(const uint8_t *items, size_t count, int item_nbytes, size_t stride, uint64_t threshold,
                        uint64_t *hashes, uint32_t *places, size_t capacity) {
    size_t kept = 0;
    uint64_t signs = some_signs(items, count < 64 ? count : 64, item_nbytes);
    for (size_t from = 0; from + ZF_SAMPLE_ITEMS <= count; from += 64) {
        const uint8_t *next = items + (from + 64) * (size_t)item_nbytes;
        uint64_t following = 0;
        if (from + 128 <= count)
            following = signs_of_64(next, item_nbytes);
        else if (from + 64 < count)
            following = some_signs(next, count - from - 64, item_nbytes);
        for (size_t at = 0; at < 64; at += stride) {
            uint64_t run = (signs >> at | (at ? following << (64 - at) : 0)) & ((1ull << ZF_SAMPLE_ITEMS) - 1);
            uint64_t hash = mix(run);
            if (ZF_LIKELY(hash > threshold) || from + at + ZF_SAMPLE_ITEMS > count)
                continue;
            int set = __builtin_popcountll(run);
            if (set < LEAST_OF_EITHER || set > ZF_SAMPLE_ITEMS - LEAST_OF_EITHER)
                continue;
            if (kept == capacity)
                return kept;
            hashes[kept] = hash;
            places[kept++] = (uint32_t)(from + at);
        }
        signs = following;
    }
    return kept;
}

size_t zf_minhash_samples(const uint8_t *items, size_t count, int item_nbytes, size_t stride, uint64_t threshold,
                          uint64_t *hashes, uint32_t *places, size_t capacity) {
    if (count < ZF_SAMPLE_ITEMS)
        return 0;
    if (item_nbytes == 2 && stride == 8)
        return search(items, count, 2, 8, threshold, hashes, places, capacity);
    if (item_nbytes == 4 && stride == 8)
        return search(items, count, 4, 8, threshold, hashes, places, capacity);
    return search(items, count, item_nbytes, stride, threshold, hashes, places, capacity);
}
