"""Files of NumPy that are zip archives, valid and hostile, as bytes; says nothing of what should come of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tests.formats.npy_files import described, saved


def savez(**arrays: NDArray[np.generic]) -> bytes:
    """What numpy.savez writes."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def archive(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of these entries."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as file:
        for name, data in entries:
            file.writestr(name, data)
    return content.getvalue()


def npz_files() -> Iterator[tuple[str, bytes]]:
    """Names of all are unique, and say that they are of NumPy."""
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    good = archive([("w.npy", saved(array)), ("b.npy", saved(array[0]))])
    yield "npz-plain", savez(w=array, b=array[0])
    yield "npz-good", good
    yield "npz-deflated", archive([("w.npy", saved(array))], zipfile.ZIP_DEFLATED)
    yield "npz-no-array", archive([("w.txt", saved(array)), ("b.npy", b"text")])
    yield "npz-cut", good[:-1]
    yield "npz-cut-array", archive([("w.npy", saved(array)[:-1])])
    yield "npz-header-beyond", archive([("w.npy", described(shape="(9,)")), ("b.npy", saved(array))])
    yield "npz-empty", archive([])
    start = good.index(b"PK\1\2")
    for number, at in enumerate((start + 20, start + 24, start + 42, len(good) - 10, len(good) - 6)):
        yield f"npz-length-{number}", good[:at] + b"\xfe\xff\xff\xff" + good[at + 4 :]
