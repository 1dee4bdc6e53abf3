"""Files of NumPy, valid and hostile, as bytes; says nothing of what should come of them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"


def saved(*arrays: NDArray[np.generic]) -> bytes:
    """What numpy.save writes of arrays, one after the other."""
    content = io.BytesIO()
    for array in arrays:
        np.save(content, array)
    return content.getvalue()


def npy(header: bytes | str, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A file with this header; `length` is what it claims of the header, the truth by default."""
    raw = header.encode() if isinstance(header, str) else header
    nbytes = 2 if version == (1, 0) else 4
    return MAGIC + bytes(version) + (len(raw) if length is None else length).to_bytes(nbytes, "little") + raw + data


def described(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)", data: bytes = b"\1" * 8) -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}", data)


def npy_files() -> Iterator[tuple[str, bytes]]:
    """Names of all are unique, and say that they are of NumPy."""
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    yield "npy-plain", saved(array)
    yield "npy-two", saved(array, array.T)
    yield "npy-behind", saved(array) + b"behind"
    yield "npy-nothing-behind-magic", MAGIC
    yield "npy-cut", saved(array)[:-1]
    yield "npy-cut-header", saved(array)[:40]
    yield "npy-structured", saved(np.zeros(2, [("a", "<f4"), ("b", "<i8")]))
    for version in ((0, 0), (1, 1), (2, 0), (3, 0), (4, 0)):
        yield f"npy-version-{version[0]}-{version[1]}", npy(b"{}", version=version)
    for length in (0, 1, 10, 65535):
        yield (
            f"npy-length-{length}",
            npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", b"1234", length=length),
        )
    for length in (2**31, 2**32 - 1):
        yield f"npy-length-{length}", npy(b"{}", version=(2, 0), length=length)
    shapes = (
        "()",
        "(2)",
        "(2,)",
        "(2, 1)",
        "(2L, 1L)",
        "[2]",
        "(-2,)",
        "(2.0,)",
        "(2,,)",
        "(,)",
        "(2",
        "2",
        "None",
        f"({2**63},)",
        f"({2**62}, {2**62})",
        f"({2**62}, 0)",
        "(" + "1, " * 64 + "2)",
        "(" + "1, " * 65 + ")",
        "(" + "9" * 5000 + ",)",
        "(" + " " * 3000 + ")",
        "(" * 500,
        "(" + "2" * 20 + "x",
        "(" + "2 " * 1000 + ")",
    )
    for number, shape in enumerate(shapes):
        yield f"npy-shape-{number}", described(shape=shape)
    descrs = (
        "'|O'",
        "'>f4'",
        "'|u1'",
        "'<V2'",
        "'<f16'",
        "'<M8[ns]'",
        "''",
        "'<f4",
        "<f4",
        "[('a', '<f4')]",
        "{}",
        "'f4'",
    )
    for number, descr in enumerate(descrs):
        yield f"npy-descr-{number}", described(descr=descr)
    headers = (
        "",
        "{",
        "}",
        "{}",
        "{,}",
        "[]",
        "{'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}",
        "{'shape': True, 'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4'" * 100,
        "\xff",
        "{" + " " * 60000 + "}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
        "{'descr': (), 'fortran_order': (), 'shape': ()}",
    )
    for number, header in enumerate(headers):
        yield f"npy-header-{number}", npy(header, bytes(8))
