"""A view is the range of its base that it says, cast, then zeros; one that its base cannot give is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stores import base_of, model, problems, put_file, tuned, weights
from zipfs.codec import FLOATS, FRAME_NBYTES, Cast, encode_frame, frame_nbytes, item_nbytes
from zipfs.errors import CatalogDamaged, ZipfsError
from zipfs.library import Library
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.open_blob import OpenBlob, open_blob
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.objects.base_view import View, check_view
from zipfs.store.objects.values import BaseRef, Blob, BlobId, frame_count, frame_seed
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.writer import PackWriter
from zipfs.store.store import open_store

CASTS = [Cast(source, target) for source in FLOATS for target in FLOATS if source != target]


def expected(view: View, base: bytes, nbytes: int) -> bytes:
    """The first `nbytes` bytes of a view."""
    seen = base[view.offset : view.offset + view.nbytes]
    if view.cast is not None:
        out = bytearray(len(seen) // item_nbytes(view.cast.source) * item_nbytes(view.cast.target))
        view.cast.apply(seen, out)
        seen = bytes(out)
    return seen[:nbytes].ljust(nbytes, b"\0")


@settings(deadline=None, max_examples=300)
@given(data=st.data(), cast=st.sampled_from([None, *CASTS]), start=st.integers(0, 40), nbytes=st.integers(0, 200))
def test_a_part_of_a_view_needs_one_range_of_the_base(
    data: st.DataObject, cast: Cast | None, start: int, nbytes: int
) -> None:
    width = 1 if cast is None else cast.source_nbytes
    base = np.random.default_rng(1).bytes(240)
    offset = data.draw(st.integers(0, 30)) * width
    view = View(offset, data.draw(st.integers(1, (240 - offset) // width)) * width, cast)
    start *= 8
    at, needed = view.needed(start, nbytes)
    assert needed == 0 or view.offset <= at <= at + needed <= view.offset + view.nbytes
    out = bytearray(nbytes)
    cut = data.draw(st.integers(0, needed // width)) * width
    seen = memoryview(base)[at : at + needed]
    out[:] = b"!" * nbytes
    view.fill([seen[:cut], seen[cut:]], memoryview(out))
    whole = expected(view, base, start + nbytes)[start:]
    tail = 0 if cast is None else nbytes % cast.target_nbytes  # an odd end is no item
    assert out[: nbytes - tail] == whole[: nbytes - tail]
    assert not any(out[nbytes - tail :])
    assert not view.is_range(needed, nbytes) or bytes(seen) == whole


@pytest.mark.parametrize(
    ("offset", "nbytes", "cast"),
    [(-1, 4, None), (0, 0, None), (0, -4, None), (2, 4, Cast("F32", "BF16")), (0, 6, Cast("F32", "BF16")),
     (1, 2, Cast("BF16", "F32")), (-4, 8, Cast("F32", "F16"))],
)  # fmt: skip
def test_a_view_that_makes_no_sense_cannot_be_made(offset: int, nbytes: int, cast: Cast | None) -> None:
    with pytest.raises(ValueError, match="view"):
        View(offset, nbytes, cast)


def test_a_view_beyond_the_end_of_its_base_is_refused() -> None:
    check_view(2, View(4, 6), 1, 10, base_has_base=False)
    for view in (View(4, 7), View(10, 1), View(1 << 62, 1 << 62), View(0, 11)):
        with pytest.raises(CatalogDamaged, match="blob 2 is coded against bytes"):
            check_view(2, view, 1, 10, base_has_base=False)
    with pytest.raises(CatalogDamaged, match="has a base itself"):
        check_view(2, View(4, 6), 1, 10, base_has_base=True)


class Pack:
    """A pack of blobs that a test lays out as it likes."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.writer = PackWriter(LocalPacks(path))
        self.blobs: dict[BlobId, Blob] = {}

    def add(self, raw: bytes, dtype: str, base: BaseRef | None = None, base_raw: bytes = b"") -> BlobId:
        blob_id = BlobId(len(self.blobs) + 1)
        self.writer.begin_blob()
        against = None if base is None else expected(base.view, base_raw, len(raw))
        step = frame_nbytes(dtype)
        for index in range(frame_count(len(raw), dtype)):
            cut = slice(index * step, (index + 1) * step)
            frame = encode_frame(raw[cut], dtype, None if against is None else against[cut], frame_seed(blob_id, index))
            self.writer.append_frame(frame)
        self.blobs[blob_id] = self.writer.end_blob(blob_id, len(raw), bytes(16), dtype, (), base)
        return blob_id

    def open(self, blob_id: BlobId) -> OpenBlob:
        return open_blob(lambda name: self.writer.file, self.blobs[blob_id], self.blobs.__getitem__)


@pytest.mark.parametrize("cast", [None, Cast("F32", "BF16"), Cast("BF16", "F32"), Cast("F16", "F8_E4M3")], ids=str)
@pytest.mark.parametrize("offset", [0, 8, 1_000_000, FRAME_NBYTES, 2 * FRAME_NBYTES + 400])
def test_frames_are_decoded_against_views_across_frames(tmp_path: Path, cast: Cast | None, offset: int) -> None:
    source, target = ("BF16", "BF16") if cast is None else (cast.source, cast.target)
    base = np.random.default_rng(3).normal(0, 0.05, 1_500_000).astype("<f4").tobytes()
    if source != "F32":
        narrow = bytearray(len(base) // 4 * item_nbytes(source))
        Cast("F32", source).apply(base, narrow)
        base = bytes(narrow) * (4 // item_nbytes(source))
    view = View(offset, min(len(base) - offset, 3_000_000), cast)
    raw = bytearray(expected(view, base, 3_100_000))
    raw[::999] = bytes(len(raw[::999]))
    pack = Pack(tmp_path / "packs")
    base_id = pack.add(base, source)
    member = pack.add(bytes(raw), target, BaseRef(base_id, view), base)
    pack.writer.sync()
    frames = FrameCache(64 << 20)
    opened = pack.open(member)
    assert opened.blob.stored_nbytes < len(raw) // 4
    order = np.random.default_rng(4).permutation(frame_count(len(raw), target)).tolist()
    for index in order:
        cut = slice(index * FRAME_NBYTES, (index + 1) * FRAME_NBYTES)
        assert bytes(frames.decode(opened, index)) == bytes(raw[cut])


HOSTILE: dict[str, dict[str, Any]] = {
    "beyond the end": {"base_offset": 1},
    "far beyond the end": {"base_offset": 1 << 60},
    "longer than the base": {"base_nbytes": 1 << 40},
    "a negative offset": {"base_offset": -8},
    "an unknown cast": {"base_cast": "I64>F32"},
    "a cast to itself": {"base_cast": "F32>F32"},
    "a cast that is none": {"base_cast": "rubbish"},
    "a cast through the middle of items": {"base_offset": 1, "base_nbytes": 7, "base_cast": "F32>BF16"},
    "no length": {"base_nbytes": None},
    "a cycle": {},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_catalog_that_says_what_cannot_be_is_told(tmp_path: Path, kind: str) -> None:
    raw = weights(3000)
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path / "in", b"base", model(raw))
        put_file(store, tmp_path / "in", b"tuned", model(tuned(raw)))
        base_id = base_of(store, b"tuned")[-1]
        assert base_id is not None
        db = store.catalog._db
        db.execute("PRAGMA ignore_check_constraints = ON")
        if kind == "a cycle":
            db.execute(
                "UPDATE blobs SET base_nbytes = nbytes, base_id = (SELECT id FROM blobs WHERE base_id = ?)"
                " WHERE id = ?",
                (base_id, base_id),
            )
        for column, value in HOSTILE[kind].items():
            db.execute(f"UPDATE blobs SET {column} = ? WHERE base_id = ?", (value, base_id))
        found = problems(store)
        assert any("blob" in problem.message or "catalog" in problem.message for problem in found), found
    with Library(tmp_path / "store") as library, pytest.raises(ZipfsError, match=r"blob|view|cast|catalog"):
        library.read(b"tuned")
    for path in (tmp_path / "store").glob("catalog.db*"):
        path.unlink()
    assert rebuild(tmp_path / "store").lost == []
    with Library(tmp_path / "store") as library:
        assert library.read(b"tuned") == model(tuned(raw))
