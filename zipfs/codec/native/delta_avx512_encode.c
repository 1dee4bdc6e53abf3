#include "delta_encode.h"
#if ZF_X86
void zd_measure_avx512(const zd_frame *frame, const zd_input *input, unsigned reference, uint64_t *magnitudes) { zd_measure_portable(frame, input, reference, magnitudes); }
void zd_symbolise_avx512(const zd_frame *frame, const zd_input *input, size_t from, size_t to, const uint16_t *levels, zd_symbols *symbols) { zd_symbolise_portable(frame, input, from, to, levels, symbols); }
uint8_t *zd_code_avx512(const zd_frame *frame, const uint16_t (*slots)[ZD_SCALE], const uint16_t (*first)[ZD_SYMBOLS], const zd_symbols *symbols, size_t blocks, uint32_t *state, uint8_t *end) { return zd_code_portable(frame, slots, first, symbols, blocks, state, end); }
#endif
