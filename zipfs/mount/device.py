"""What is agreed with the kernel beyond what libfuse knows, and the data of large writes. See `native/device.c`.

Without our functions below libfuse (one before 3.13) nothing more is agreed, and all data come as bytes of pyfuse3.
"""

from __future__ import annotations

from typing import Final

from zipfs.mount import _native
from zipfs.store.frames.buffers import BufferPool

_HANDLE_KILLPRIV_V2: Final = 1 << 28
"""Set-id bits are cleared here, so the kernel need not ask for an attribute before each write to know whether to."""


def prepare(buffers: BufferPool) -> None:
    """Have the session that pyfuse3 makes next read and answer through us; what is written goes to these buffers."""
    _native.prepare(buffers.take, _HANDLE_KILLPRIV_V2)


def written(fh: int, offset: int, data: bytes) -> bytes | memoryview:
    """Return what a write request holds; to be called before anything else is awaited."""
    return data or _native.take_data(fh, offset)
