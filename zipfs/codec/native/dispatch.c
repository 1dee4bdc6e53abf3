#include "dispatch.h"

#include <stdlib.h>

#include "common.h"

const zf_layout zf_layouts[ZF_LAYOUTS] = {
    [ZF_PLAIN] = {1, 0, 0}, [ZF_BF16] = {2, 8, 7}, [ZF_F16] = {2, 5, 10}, [ZF_F32] = {4, 8, 23},
    [ZF_F64] = {8, 11, 52}, [ZF_E4M3] = {1, 4, 3}, [ZF_E5M2] = {1, 5, 2}, [ZF_I8] = {1, 0, 0},
    [ZF_I16] = {2, 0, 0},   [ZF_I32] = {4, 0, 0},  [ZF_I64] = {8, 0, 0},
};

const char zf_no_memory[] = "out of memory";

static const char *const names[ZF_ISAS] = {"portable", "avx2", "avx512"};
static int best = ZF_PORTABLE;
static int chosen = ZF_PORTABLE;
static _Thread_local int overridden = -1;

static int probe(void) {
#if ZF_X86
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
          __builtin_cpu_supports("popcnt")))
        return ZF_PORTABLE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vbmi2"))
        return ZF_AVX512;
    return ZF_AVX2;
#else
    return ZF_PORTABLE;
#endif
}

const char *zf_dispatch_init(void) {
    best = probe();
    chosen = best;
    const char *wanted = getenv("ZIPFS_CODEC_ISA");
    if (wanted == NULL || !*wanted)
        return NULL;
    int isa = zf_isa_by_name(wanted);
    if (isa < 0)
        return "ZIPFS_CODEC_ISA must be portable, avx2 or avx512";
    if (isa > best)
        return "ZIPFS_CODEC_ISA asks for instructions that this machine lacks";
    chosen = isa;
    return NULL;
}

int zf_dispatch_best(void) { return best; }
int zf_dispatch_chosen(void) { return chosen; }
void zf_dispatch_override(int isa) { overridden = isa; }
int zf_isa(void) { return overridden >= 0 ? overridden : chosen; }
const char *zf_isa_name(int isa) { return names[isa]; }

int zf_isa_by_name(const char *name) {
    for (int isa = 0; isa < ZF_ISAS; isa++)
        if (!strcmp(name, names[isa]))
            return isa;
    return -1;
}
