"""The `model.bin` of CTranslate2: variables one after the other, then aliases of some.

Takes binary versions 2 to 6. Source: OpenNMT/CTranslate2, `src/models/model.cc` and
`python/ctranslate2/specs/model_spec.py`. Pure; any thread may call it.
"""

from __future__ import annotations

from math import prod
from typing import Final

from zipfs.dtypes import DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats.layout import Layout, Read, Span
from zipfs.formats.source import Cursor, Source
from zipfs.formats.tiling import tile

FORMAT: Final = "ctranslate2"
VERSIONS: Final = (2, 3, 4, 5, 6)
MAX_VARIABLES: Final = 1 << 16
MAX_AXES: Final = 32

_FIRST_WITH_ALIASES: Final = 3
_FIRST_WITH_TYPES: Final = 4
_DTYPES: Final = ("F32", "I8", "I16", "I32", "F16", "BF16")
_DTYPE_OF_NBYTES: Final = {1: "I8", 2: "I16", 4: "F32"}
"""Of items in versions that tell no more of them."""
_NAME_AT: Final = 6


def looks_like_ctranslate2(head: bytes, nbytes: int) -> bool:
    """Return whether a file of `nbytes` that begins with `head` can be of CTranslate2: a version, and a name."""
    if nbytes < 20 or len(head) <= _NAME_AT or int.from_bytes(head[:4], "little") not in VERSIONS:
        return False
    name = head[_NAME_AT : _NAME_AT + int.from_bytes(head[4:_NAME_AT], "little")]
    return len(name) > 1 and name.rstrip(b"\0").isalnum()


def parse_ctranslate2(read: Read, nbytes: int) -> Layout:
    """Lay out a model of CTranslate2 of `nbytes`: the items of each variable, and what lies between them.

    Raises NotThisFormat, with the reason, if the file is anything else, and whatever `read` raises.
    """
    source = Source(read, nbytes)
    if not looks_like_ctranslate2(source.take(0, min(nbytes, 64)), nbytes):
        raise NotThisFormat("no version and name of a model")
    cursor = Cursor(source)
    version = cursor.uint(4)
    _take_string(cursor)
    cursor.skip(4)
    count = cursor.uint(4)
    if count > MAX_VARIABLES:
        raise NotThisFormat(f"more than {MAX_VARIABLES} variables")
    variables = [_take_variable(cursor, version) for _ in range(count)]
    if version >= _FIRST_WITH_ALIASES:
        count = cursor.uint(4)
        if count > MAX_VARIABLES:
            raise NotThisFormat(f"more than {MAX_VARIABLES} aliases")
        for _ in range(2 * count):
            _take_string(cursor)
    if cursor.at != nbytes:
        raise NotThisFormat("more than a model in the file")
    return tile(FORMAT, variables, nbytes)


def _take_variable(cursor: Cursor, version: int) -> Span:
    name = _take_string(cursor)
    rank = cursor.uint(1)
    if rank > MAX_AXES:
        raise NotThisFormat(f"more than {MAX_AXES} axes")
    shape = tuple(cursor.uint(4) for _ in range(rank))
    if version >= _FIRST_WITH_TYPES:
        type_id = cursor.uint(1)
        dtype = _DTYPES[type_id] if type_id < len(_DTYPES) else ""
        nbytes = cursor.uint(4)
    else:
        item_nbytes = cursor.uint(1)
        dtype = _DTYPE_OF_NBYTES.get(item_nbytes, "")
        nbytes = cursor.uint(4) * item_nbytes
    if not dtype or prod(shape) * DTYPES[dtype].block_nbytes != nbytes:
        raise NotThisFormat("a variable whose bytes do not match its type and shape")
    return Span(cursor.skip(nbytes), nbytes, dtype, shape, name)


def _take_string(cursor: Cursor) -> str:
    content = cursor.take(cursor.uint(2))
    if not content.endswith(b"\0"):
        raise NotThisFormat("a string without an end")
    return content[:-1].decode("utf-8", "replace")
