/* What every native codec agrees on: layouts of items, the calling convention, and which instructions may be used.

   A codec fills `out` and never keeps a pointer.  It may allocate scratch memory that is bounded by a small multiple of
   `nbytes` and frees it before it returns.  Any thread may call; none of them holds the GIL. */
#ifndef ZF_COMMON_H
#define ZF_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define ZF_X86 1
#include <immintrin.h>
#define ZF_TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define ZF_TARGET_AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))
#else
#define ZF_X86 0
#endif

#define ZF_INLINE static inline __attribute__((always_inline))
#define ZF_NOINLINE __attribute__((noinline))
#define ZF_LIKELY(x) __builtin_expect(!!(x), 1)
#define ZF_UNLIKELY(x) __builtin_expect(!!(x), 0)

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "items and streams are little-endian words that are read in place"
#endif
_Static_assert(sizeof(size_t) >= 8, "lengths in bits are counted in size_t");

/* Layout codes stand in payloads: a code is never given to another layout. */
enum {
    ZF_PLAIN = 0, /* bytes that are no numbers */
    ZF_BF16 = 1,
    ZF_F16 = 2,
    ZF_F32 = 3,
    ZF_F64 = 4,
    ZF_E4M3 = 5,
    ZF_E5M2 = 6,
    ZF_I8 = 7, /* integers of either sign */
    ZF_I16 = 8,
    ZF_I32 = 9,
    ZF_I64 = 10,
    ZF_LAYOUTS = 11
};

/* Codes of types of blocks stand in payloads, too; blocks.h has what they are. */
enum { ZF_BLOCK_TYPES = 28 };

typedef struct {
    uint8_t nbytes;        /* of an item */
    uint8_t exponent_bits; /* 0 for integers */
    uint8_t mantissa_bits; /* stored bits below the exponent; 0 for integers */
} zf_layout;

extern const zf_layout zf_layouts[ZF_LAYOUTS];

/* Instruction sets, each including those before it. */
enum { ZF_PORTABLE = 0, ZF_AVX2 = 1, ZF_AVX512 = 2, ZF_ISAS = 3 };

/* What the calling thread is to use now: what the call was told, else what the process chose at import. */
int zf_isa(void);

/* The calling convention.  Encoders: 0 and *used <= capacity, or 1 if the payload does not fit in `capacity` or the
   codec does not help.  Decoders: fill exactly `nbytes` bytes of `out` and return NULL, or return what was wrong (a
   constant string); `out` may then hold rubbish.  `base` is as long as the raw bytes.  Lengths may be 0 and pointers
   then NULL.  Buffers need no alignment and do not overlap. */
int zf_bitx_encode(const uint8_t *raw, const uint8_t *base, size_t nbytes, int layout, uint8_t *out, size_t capacity,
                   size_t *used);
const char *zf_bitx_decode(const uint8_t *payload, size_t payload_nbytes, const uint8_t *base, uint8_t *out,
                           size_t nbytes);
int zf_standalone_encode(const uint8_t *raw, size_t nbytes, int layout, uint8_t *out, size_t capacity, size_t *used);
const char *zf_standalone_decode(const uint8_t *payload, size_t payload_nbytes, uint8_t *out, size_t nbytes);
/* `code` is that of a type of blocks: 1 to ZF_BLOCK_TYPES - 1. */
int zf_blocks_encode(const uint8_t *raw, size_t nbytes, int code, uint8_t *out, size_t capacity, size_t *used);
const char *zf_blocks_decode(const uint8_t *payload, size_t payload_nbytes, uint8_t *out, size_t nbytes);

/* Codecs that a run may name; frames carry these ids. */
enum { ZF_RAW = 0, ZF_STANDALONE = 2, ZF_BITX = 3, ZF_BLOCKS = 4 };

/* One frame of a run: `base` is as long as `out` if the codec is ZF_BITX, and else not looked at; `checksum` is that of
   the decoded bytes with `seed`. */
typedef struct {
    int codec;
    const uint8_t *payload, *base;
    uint8_t *out;
    size_t payload_nbytes, nbytes;
    uint64_t seed, checksum;
} zf_step;

/* Decodes and checks the steps in order, so that a base may be what an earlier step fills.  Gives `count`, or the number
   of the first that failed and in *wrong the reason. */
size_t zf_decode_run(const zf_step *steps, size_t count, const char **wrong);

/* What decoders return where memory ran out: it says nothing about the payload. */
extern const char zf_no_memory[];

/* Unaligned little-endian words. */
ZF_INLINE uint16_t zf_get16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
ZF_INLINE uint32_t zf_get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
ZF_INLINE uint64_t zf_get64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
ZF_INLINE void zf_put16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
ZF_INLINE void zf_put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
ZF_INLINE void zf_put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

#endif
