"""Owns the contract between the frame container and its codecs.  Immutable; any thread may use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Buffer

Bytes = NDArray[np.uint8]

Payload = bytes | memoryview


class Encode(Protocol):
    def __call__(self, raw: Bytes, dtype: str, base: Bytes | None, limit_nbytes: int) -> Payload | None:
        """Return a payload for `raw` that is shorter than `limit_nbytes`, or None if this codec cannot give one.

        `base` is None or of the length of `raw`.  A codec may give up early when a sample says that it will not reach
        the limit.  The payload stays as it is until this codec encodes again in the same thread.
        """


class Unpack(Protocol):
    def __call__(self, payload: memoryview, nbytes: int) -> bytes:
        """Return the `nbytes` bytes of a payload; nothing larger than a small multiple of them is ever allocated.

        Raises FrameDamaged for a payload that this codec cannot have made.
        """


@dataclass(frozen=True, slots=True)
class Codec:
    """A way of coding: `id` is what frames carry, so it is never given to another codec.

    Where `unpack` is None the native run (native/run.c) knows the id, and decodes with no word of Python.
    """

    id: int
    name: str
    needs_base: bool
    encode: Encode
    unpack: Unpack | None


def view_bytes(buffer: Buffer) -> Bytes:
    """Return the bytes of a C-contiguous buffer as a 1-D uint8 array, uncopied; writable if the buffer is.

    Raises ValueError or BufferError for a buffer that is not contiguous, TypeError for what is no buffer.
    """
    view = memoryview(buffer)
    return np.frombuffer(view, np.uint8) if view.nbytes else np.empty(0, np.uint8)
