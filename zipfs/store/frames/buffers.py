"""Owns the memory of decoded bytes: buffers that are leased out, and used again instead of returned to the system.

A fresh MiB costs 256 page faults, which take longer than decoding it.

A lease is a memoryview. `BufferPool.take` gives the first one; each part cut from it, each read-only view of it and
each array made from it extends the lease. The buffer protocol tells the pool when the last of them is released, by
`release`, at the end of a `with` block, or because nobody refers to it any more: then, and never before, the buffer is
free. So nothing has to be handed back, whoever forgets a view only keeps its memory from being used again, and a
reference count decides nothing. A view that others may use is never released, only dropped.

Any thread may call, and may drop a view wherever it is.
"""

from __future__ import annotations

from typing import Final

from zipfs.store.frames._native import BufferPool, buffer_nbytes

__all__ = ["KEPT_NBYTES", "BufferPool", "buffer_nbytes"]

KEPT_NBYTES: Final = 48 << 20
"""At most so many bytes of a pool wait for their next use."""
