"""Files of CTranslate2, valid and hostile, as bytes; says nothing of what should come of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import pack

F32, I8, I16, I32, F16, BF16 = range(6)
NBYTES = (4, 1, 2, 4, 2, 2)


def string(text: bytes) -> bytes:
    """Text as it is written: its length, and a zero at its end."""
    return pack("<H", len(text) + 1) + text + b"\0"


def variable(name: bytes, shape: Sequence[int], type_id: int, items: bytes, version: int = 6) -> bytes:
    """A variable as `version` has it."""
    head = string(name) + pack("<B", len(shape)) + b"".join(pack("<I", length) for length in shape)
    if version >= 4:
        return head + pack("<BI", type_id, len(items)) + items
    return head + pack("<BI", NBYTES[type_id], len(items) // NBYTES[type_id]) + items


def model(
    variables: Sequence[bytes], aliases: Sequence[bytes] = (), version: int = 6, count: int | None = None
) -> bytes:
    """A model of these variables; `count` is what it claims of them, the truth by default."""
    content = pack("<I", version) + string(b"TransformerSpec") + pack("<I", 7)
    content += pack("<I", len(variables) if count is None else count) + b"".join(variables)
    return content + (pack("<I", len(aliases) // 2) + b"".join(aliases) if version >= 3 else b"")


def ctranslate2_files() -> Iterator[tuple[str, bytes]]:
    """Names of all are unique, and say that they are of CTranslate2."""
    weight = variable(b"decoder/weight", (2, 3), F32, bytes(range(24)))
    for version in range(8):
        content = model([variable(b"w", (2, 3), F32, bytes(24), version)], version=version)
        yield f"ctranslate2-version-{version}", content
    yield "ctranslate2-aliases", model([weight, weight], [string(b"a"), string(b"decoder/weight")])
    yield "ctranslate2-nothing", model([])
    yield "ctranslate2-cut", model([weight])[:-1]
    yield "ctranslate2-behind", model([weight]) + b"\0"
    for count in (0, 2, 2**16 + 1, 2**32 - 1):
        yield f"ctranslate2-count-{count}", model([weight], count=count)
    for number, shape in enumerate(((), (6,), (7,), (2**32 - 1,) * 3, (2**32 - 1,) * 200, (0, 5))):
        yield f"ctranslate2-shape-{number}", model([variable(b"w", shape, F32, bytes(24))])
    yield "ctranslate2-type", model([variable(b"w", (24,), 99, bytes(24))])
    yield "ctranslate2-name", model([variable(b"\xff" * 300, (24,), I8, bytes(24))])
    yield "ctranslate2-no-end", model([weight.replace(b"weight\0", b"weights")])
