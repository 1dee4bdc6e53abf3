"""Files of HDF5, valid and hostile, as bytes; says nothing of what should come of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import h5py  # type: ignore[import-untyped]
import numpy as np

from tests.formats.npz_files import archive

LIBVERS = ("earliest", "v108", "v110", "latest")


def hdf5(fill: Callable[[h5py.File], None], **options: object) -> bytes:
    """What h5py writes of a file that `fill` puts groups and datasets into."""
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        fill(file)
    return content.getvalue()


def fill_some(file: h5py.File) -> None:
    """A few groups, datasets that are taken, and some that are not."""
    file["layers/dense/vars/0"] = np.arange(12, dtype="<f4").reshape(3, 4)
    file["layers/dense/vars/1"] = np.arange(4, dtype="<f4")
    file["half"] = np.arange(6, dtype="<f2")
    file["big"] = np.arange(6, dtype=">f4")
    file.create_dataset("chunked", data=np.arange(40.0), chunks=(10,))
    file.attrs["backend"] = "zipfs"


def fill_many(file: h5py.File) -> None:
    """So many links in a group that they lie in a tree, or in a heap with several blocks."""
    for number in range(300):
        file[f"layers/number_{number:04}"] = np.full(3, number, "<f4")


def fill_circle(file: h5py.File) -> None:
    """Groups that hold each other."""
    file["a/b/w"] = np.arange(5, dtype="<f4")
    file["a/b/root"] = file["/"]
    file["a/b/a"] = file["a"]
    file["soft"] = h5py.SoftLink("/a/b/w")
    file["elsewhere"] = h5py.ExternalLink("other.h5", "/w")


def hdf5_files() -> Iterator[tuple[str, bytes]]:
    """Names of all are unique, and say that they are of HDF5."""
    for libver in ("earliest", "latest"):
        good = hdf5(fill_some, libver=libver)
        yield f"hdf5-some-{libver}", good
        yield f"hdf5-circle-{libver}", hdf5(fill_circle, libver=libver)
        yield f"hdf5-cut-{libver}", good[: len(good) // 2]
        for at in (8, 13, 24, 36, 64):
            yield f"hdf5-superblock-{at}-{libver}", good[:at] + b"\xff" * 8 + good[at + 8 :]
        for number, mark in enumerate((b"TREE", b"SNOD", b"HEAP", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB")):
            at = good.find(mark)
            if at >= 0:
                yield f"hdf5-mark-{number}-{libver}", good[:at] + b"NONE" + good[at + 4 :]
                for offset in (4, 8, 24):
                    cut = at + offset
                    yield f"hdf5-length-{number}-{offset}-{libver}", good[:cut] + b"\xfe\xff" + good[cut + 2 :]
    yield "hdf5-keras", archive([("config.json", b"{}"), ("model.weights.h5", hdf5(fill_some))])
    small = hdf5(lambda file: file.create_dataset("w", data=np.arange(4, dtype="<f4")), libver="latest")
    yield "hdf5-keras-small", archive([("model.weights.h5", small)])
    yield "hdf5-keras-damaged", archive([("model.weights.h5", hdf5(fill_some)[:3000]), ("b.h5", b"")])
    yield "hdf5-magic", b"\x89HDF\r\n\x1a\n" + bytes(100)
