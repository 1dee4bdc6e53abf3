/* Which instruction sets this machine has and which one is in use. */
#ifndef ZF_DISPATCH_H
#define ZF_DISPATCH_H

/* Reads the processor and ZIPFS_CODEC_ISA.  Call once before anything else.  NULL, or why it cannot be done. */
const char *zf_dispatch_init(void);

/* The best that the machine has, and what the process uses. */
int zf_dispatch_best(void);
int zf_dispatch_chosen(void);

/* Has the calling thread use `isa` until it is called with -1. */
void zf_dispatch_override(int isa);

const char *zf_isa_name(int isa);
int zf_isa_by_name(const char *name); /* -1 for an unknown one */

#endif
