"""Weight files of Core ML, valid and hostile, as bytes; says nothing of what should come of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import pack

SENTINEL = 0xDEADBEEF


def weights(
    blobs: Sequence[tuple[int, bytes]],
    count: int | None = None,
    version: int = 2,
    sentinel: int = SENTINEL,
    more: int = 0,
) -> bytes:
    """A weight file of blobs, of each its type and bytes.

    `count` is what it claims of them, the truth by default; `more` is what each claims to be longer.
    """
    content = pack("<II56x", len(blobs) if count is None else count, version)
    for type_id, items in blobs:
        content += bytes(-len(content) % 64)
        content += pack("<IIQQ40x", sentinel, type_id, len(items) + more, len(content) + 64) + items
    return content


def coreml_files() -> Iterator[tuple[str, bytes]]:
    """Names of all are unique, and say that they are of Core ML."""
    blobs = [(2, bytes(range(40))), (1, bytes(range(7))), (3, b""), (1, bytes(range(100)))]
    yield "coreml-good", weights(blobs)
    yield "coreml-cut", weights(blobs)[:-1]
    yield "coreml-behind", weights(blobs) + bytes(100)
    yield "coreml-version", weights(blobs, version=1)
    yield "coreml-sentinel", weights(blobs, sentinel=0xBEEF)
    yield "coreml-type", weights([(99, bytes(64)), (0, bytes(64)), (1, bytes(64))])
    for count in (0, 1, 5, 2**32 - 1):
        yield f"coreml-count-{count}", weights(blobs, count)
    for more in (1, 2**32, 2**64 - 101):
        yield f"coreml-longer-{more}", weights(blobs, more=more)
