#include "delta.h"
#if ZF_X86
void zd_decode_avx2(const zd_frame *frame, const uint32_t *direct_table, const uint32_t *blocks, size_t count, const uint16_t *levels, const uint8_t *base, uint8_t *out, zd_cursor *cursor) { zd_decode_portable(frame, direct_table, blocks, count, levels, base, out, cursor); }
#endif
