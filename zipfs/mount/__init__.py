"""A thin adapter of the tree to the kernel, by pyfuse3 and trio. `CONCURRENCY.md` states what holds between threads."""

import os
import sys

_flags = sys.getdlopenflags()
sys.setdlopenflags(_flags | os.RTLD_GLOBAL)
try:
    import zipfs.mount._native  # noqa: F401  # before pyfuse3, whose answers then leave the interpreter free
finally:
    sys.setdlopenflags(_flags)
