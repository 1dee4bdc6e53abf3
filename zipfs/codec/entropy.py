"""Owns the zstandard contexts: one of each kind per thread, because they are not thread safe.

Any thread may call.  Compressing and decompressing release the GIL.
"""

from __future__ import annotations

import threading
from typing import Final

import zstandard

from zipfs.codec.contract import Bytes
from zipfs.errors import FrameDamaged

_LEVEL: Final = 3


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.matches = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress_matches(raw: Bytes) -> bytes:
    """Return one zstd frame of `raw` by zstd's level 3: for bytes that repeat."""
    return _contexts.matches.compress(raw.data)


def decompress(payload: memoryview, nbytes: int) -> bytes:
    """Return the `nbytes` bytes of a zstd frame that fills `payload`. Raises FrameDamaged if it holds anything else.

    Content and window size that the frame states are compared before anything is allocated for them.  Whoever codes
    with the length known, as we do, never gets a window that is larger than the content.
    """
    try:
        stated = zstandard.get_frame_parameters(payload)
        if stated.content_size != nbytes:
            raise FrameDamaged("zstd content size differs from what the header implies")
        if stated.window_size > nbytes:
            raise FrameDamaged("zstd window is larger than its content")
        content = _contexts.decompressor.decompress(payload, max_output_size=nbytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FrameDamaged(f"zstd: {error}") from error
    if len(content) != nbytes:
        raise FrameDamaged("zstd content is shorter than stated")
    return content
