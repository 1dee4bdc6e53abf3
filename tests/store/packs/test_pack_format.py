"""The bytes of a pack and the checksums of catalog rows: what was written is read, what was altered is refused."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import noise
from tests.support.sums import entry_sum, inode_sum
from zipfs.codec import FLOATS, FRAME_NBYTES, Cast, encode_frame
from zipfs.errors import PackDamaged, UnknownVersion
from zipfs.store.objects.base_view import View
from zipfs.store.objects.columns import layout_sum
from zipfs.store.objects.values import (
    Area,
    BaseRef,
    Blob,
    BlobId,
    Entry,
    Extent,
    Inode,
    InodeId,
    Kind,
    PackName,
    State,
    frame_count,
    frame_seed,
)
from zipfs.store.packs import pack_format
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.packs.writer import PackWriter

NAME = PackName(bytes(range(16)))


def views() -> st.SearchStrategy[View]:
    scales = st.just(1.0) | st.floats(2**-126, 2**127, width=32, allow_subnormal=False)
    casts = st.none() | st.builds(lambda names, scale: Cast(names[0], names[1], scale), st.permutations(FLOATS), scales)
    return st.builds(
        lambda offset, nbytes, cast: View(offset * 8, nbytes * 8, cast),
        st.integers(0, 2**50), st.integers(1, 2**50), casts,
    )  # fmt: skip


@st.composite
def packed_blobs(draw: st.DrawFn) -> PackedBlob:
    nbytes = draw(st.integers(1, 5 * FRAME_NBYTES))
    dtype = draw(st.text(max_size=10) | st.sampled_from(["BF16", "Q4_K", "IQ2_S"]))
    count = frame_count(nbytes, dtype)
    frames = draw(st.lists(st.integers(0, 2**32 - 1), min_size=count, max_size=count))
    base = draw(st.none() | st.builds(BaseRef, st.integers(1, 2**40 - 1).map(BlobId), views()))
    blob = Blob(
        BlobId(draw(st.integers(1, 2**40 - 1))),
        nbytes,
        draw(st.binary(min_size=16, max_size=16)),
        dtype,
        tuple(draw(st.lists(st.integers(0, 2**62), max_size=4))),
        base,
        NAME,
        draw(st.integers(pack_format.HEADER.size, 2**40)),
        np.array(frames, np.uint32),
    )
    return PackedBlob(blob, draw(st.integers(0, 2**64 - 1)))


def as_tuple(packed: PackedBlob) -> tuple[object, ...]:
    values = [getattr(packed.blob, field.name) for field in fields(Blob) if field.name != "frames"]
    return (*values, packed.blob.frames.tolist(), packed.stored_sum)


@given(st.lists(packed_blobs(), max_size=5))
def test_an_index_lists_what_it_was_made_of(blobs: list[PackedBlob]) -> None:
    index = pack_format.encode_index(blobs)
    end = max([pack_format.HEADER.size, *(p.blob.pack_offset + p.blob.stored_nbytes for p in blobs)])
    trailer = pack_format.trailer(NAME, end, index)
    offset, length, index_sum = pack_format.locate_index(
        trailer, pack_format.header(NAME), end + len(index) + pack_format.TRAILER.size, "pack"
    )
    assert (offset, length) == (end, len(index))
    found = pack_format.decode_index(index, index_sum, NAME, offset, "pack")
    assert [as_tuple(packed) for packed in found] == [as_tuple(packed) for packed in blobs]


def write_pack(path: Path) -> tuple[LocalPacks, PackName, Path]:
    path.mkdir(exist_ok=True)
    directory = LocalPacks(path)
    writer = PackWriter(directory)
    for number in range(3):
        raw = noise(200, number)
        writer.begin_blob()
        writer.append_frame(encode_frame(raw, "", None, frame_seed(BlobId(number + 1), 0)))
        writer.end_blob(BlobId(number + 1), len(raw), bytes([number]) * 16, "", (), None)
    writer.sync()
    writer.finish(lambda: None)
    return directory, writer.name, Path(directory.where(writer.name))


def test_a_pack_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    _, name, path = write_pack(tmp_path / "packs")
    whole = path.read_bytes()
    assert len(LocalPacks(path.parent).open(name).index()) == 3
    for nbytes in range(len(whole)):
        os.truncate(path, nbytes)
        with pytest.raises(PackDamaged) as told:
            LocalPacks(path.parent).open(name).index()
        assert str(path) in str(told.value)
        path.write_bytes(whole)
    path.write_bytes(whole + b"\0")
    with pytest.raises(PackDamaged):
        LocalPacks(path.parent).open(name).index()


def test_a_pack_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    directory, name, path = write_pack(tmp_path / "packs")
    other = PackName(bytes(16))
    path.rename(Path(directory.where(other)))
    with pytest.raises(PackDamaged):
        LocalPacks(path.parent).open(other).index()
    with pytest.raises(FileNotFoundError):
        LocalPacks(path.parent).open(name)


def test_a_newer_pack_is_refused_with_the_advice_to_upgrade() -> None:
    header = pack_format.HEADER.pack(pack_format.MAGIC, pack_format.VERSION + 1, 0, NAME)
    with pytest.raises(UnknownVersion, match="Upgrade"):
        pack_format.check_header(header, NAME, "pack")


GOOD: dict[str, Any] = {
    "id": 1,
    "nbytes": 10,
    "xxh3_128": "00" * 16,
    "dtype": "",
    "shape": [],
    "base": None,
    "offset": 32,
    "frames": [26],
    "stored_sum": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"id": None}, {"id": "x"}, {"nbytes": 0}, {"nbytes": -1}, {"nbytes": FRAME_NBYTES + 1}, {"xxh3_128": "00"},
        {"xxh3_128": "zz"}, {"xxh3_128": 3}, {"shape": None}, {"shape": ["x"]}, {"base": 3}, {"base": [1]},
        {"base": []}, {"base": [1, 0, 10]}, {"base": [1, 0, 10, "", 0]}, {"base": [1, -1]}, {"base": [1, -1, 10, ""]},
        {"base": [1, 0, 0, ""]}, {"base": [1, 0, -10, ""]}, {"base": [1, 0, None, ""]}, {"base": [1, 0, 10, "F32"]},
        {"base": [1, 0, 10, 3]}, {"base": [1, 0, 10, "F32>F32"]}, {"base": [1, 0, 10, "I64>F32"]},
        {"base": [1, 2, 8, "F32>BF16"]}, {"base": [1, 0, 10, "F32>BF16"]},
        {"offset": 0}, {"offset": -5}, {"offset": 10**9}, {"offset": "x"}, {"frames": []},
        {"frames": [1, 2]}, {"frames": [-1]}, {"frames": [2**32]}, {"frames": [10**9]}, {"frames": "x"},
        {"frames": None}, {"stored_sum": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_an_index_that_says_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    """Also when its checksum is right: somebody may have made it so."""
    refuse_index({"blobs": [GOOD | change]})


@pytest.mark.parametrize("key", GOOD)
def test_an_index_that_leaves_something_out_is_refused(key: str) -> None:
    refuse_index({"blobs": [{name: value for name, value in GOOD.items() if name != key}]})


@pytest.mark.parametrize("document", [[], {}, None, 3, "x", {"blobs": 3}, {"blobs": None}, {"blobs": [3]}], ids=str)
def test_an_index_of_another_form_is_refused(document: object) -> None:
    refuse_index(document)


def refuse_index(document: object) -> None:
    index = zstandard.compress(json.dumps(document).encode())
    (*_, index_sum, _, _) = pack_format.TRAILER.unpack(pack_format.trailer(NAME, 1000, index))
    with pytest.raises(PackDamaged):
        pack_format.decode_index(index, index_sum, NAME, 1000, "pack")


INODE = Inode(InodeId(3), Kind.FILE, State.STORED, 0o644, 1, 2, 3, 4, 5, None, 6, b"s" * 32, 7, 8)


@pytest.mark.parametrize(
    "change",
    [
        {"id": InodeId(4)}, {"kind": Kind.SYMLINK}, {"state": State.SEALED}, {"mode": 0o600}, {"uid": 0}, {"gid": 0},
        {"nbytes": 4}, {"mtime_ns": -4}, {"ctime_ns": 0}, {"target": b""}, {"stored_nbytes": 0}, {"sha256": None},
        {"layout_sum": 0}, {"atime_ns": 9}, {"atime_ns": None},
    ],
    ids=str,
)  # fmt: skip
def test_the_checksum_of_an_inode_covers_every_column(change: dict[str, Any]) -> None:
    assert {*change} <= {field.name for field in fields(Inode)}
    assert inode_sum(replace(INODE, **change)) != inode_sum(INODE)


def test_the_checksums_of_entries_and_extents_cover_every_column() -> None:
    entry = Entry(InodeId(1), b"n", InodeId(2), Area.SERVED)
    others = [
        replace(entry, parent_id=InodeId(9)),
        replace(entry, name=b"m"),
        replace(entry, inode_id=InodeId(9)),
        replace(entry, area=Area.LINGERING),
    ]
    assert entry_sum(entry) not in {entry_sum(other) for other in others}
    one, two = Extent(0, 5, BlobId(1), 0), Extent(5, 6, BlobId(2), 1)
    layouts = [
        (),
        (one,),
        (two, one),
        (one, two, two),
        (one, replace(two, offset=77)),
        (one, replace(two, nbytes=77)),
        (one, replace(two, blob_id=BlobId(77))),
        (one, replace(two, blob_offset=77)),
    ]
    assert layout_sum((one, two)) not in {layout_sum(layout) for layout in layouts}
    assert layout_sum((one, two)) == layout_sum([one, two])


def test_a_frame_in_the_place_of_another_has_another_seed() -> None:
    seeds = {frame_seed(BlobId(blob), index) for blob in range(1, 50) for index in range(50)}
    assert len(seeds) == 49 * 50
