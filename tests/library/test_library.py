"""The tree as a library: paths, links, listings, and contents that many threads read."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.stores import (
    compress,
    copy_in,
    import_path,
    make_store,
    model,
    noise,
    put_file,
    served_inode,
    tensor_file,
    tuned,
    weights,
    write_tree,
)
from zipfs.codec import FRAME_NBYTES
from zipfs.errors import CatalogDamaged, Damaged, IsADirectory, NotADirectory, NotFound, PackDamaged, PathError
from zipfs.ingest.queue import seal_everything
from zipfs.library import Library
from zipfs.reading import Reader, open_content
from zipfs.reading.content import SpooledContent
from zipfs.store.frames import cache
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.counters import FrameCounters
from zipfs.store.frames.decode_plan import Target
from zipfs.store.frames.fetch import fetch_frames
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store, open_store

BASE = weights(1_500_000)
FILES = {
    b"base": model(BASE),
    b"tuned": model(tuned(BASE)),
    b"sub/deep/file": b"content",
    b"sub/\xff": b"not UTF-8",
    b"empty": b"",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    source = write_tree(root / "m", FILES)
    for name, target in {
        "link": "sub/deep/file",
        "sub/up": "../base",
        "dir": "sub",
        "sub/deep/chain": "../../dir/deep/file",
        "loop": "loop",
        "ping": "pong",
        "pong": "ping",
        "outside": "/etc/passwd",
        "above": "../../../../etc/passwd",
        "dangling": "nothing",
    }.items():
        os.symlink(target, source / name)
    with open_store(root / "store", create=True) as store:
        import_path(store, source, b"m")
    return root / "store"


@pytest.fixture
def library(path: Path) -> Iterator[Library]:
    with Library(path) as library:
        yield library


@pytest.mark.parametrize("name", FILES)
def test_files_by_path(library: Library, name: bytes) -> None:
    for spelled in (b"m/" + name, b"/m/" + name, b"m//" + name, b"./m/./" + name):
        assert library.read(spelled) == FILES[name]
    assert library.read(os.fsdecode(b"m/" + name)) == FILES[name]
    node = library.node(b"m/" + name)
    assert (node.path, node.nbytes) == (b"m/" + name, len(FILES[name]))


def test_links_within_the_tree_are_followed(library: Library) -> None:
    assert library.read("m/link") == b"content"
    assert library.read("m/sub/up") == FILES[b"base"]
    assert library.read("m/dir/deep/file") == b"content"
    assert library.read("m/sub/deep/chain") == b"content"
    assert library.node("m/dir").inode.is_directory
    assert library.node("m/dir", follow=False).inode.target == b"sub"
    assert library.node("m/dir/up", follow=False).inode.target == b"../base"


@pytest.mark.parametrize("name", ["loop", "ping", "outside", "above", "dangling", "loop/x", "outside/x"])
def test_links_that_lead_nowhere_are_errors(library: Library, name: str) -> None:
    with pytest.raises(PathError):
        library.node(f"m/{name}")
    if "/" not in name:
        assert library.node(f"m/{name}", follow=False).inode.target is not None


def test_listings(library: Library) -> None:
    top = library.node("")
    assert [node.path for node in library.children(top)] == [b"m"]
    assert [node.path for node in library.children(library.node("m/sub"))] == [
        b"m/sub/deep",
        b"m/sub/up",
        b"m/sub/\xff",
    ]
    walked = [node.path for node in library.walk(top)]
    assert walked[:2] == [b"", b"m"]
    assert {b"m/" + name for name in FILES} <= set(walked)
    assert len(walked) == len(set(walked))
    for name in walked:
        assert not name or os.path.dirname(name) in walked[: walked.index(name)]


def test_what_is_asked_for_wrongly(library: Library) -> None:
    for wrong in ("m/missing", "missing", "m/sub/missing/x"):
        with pytest.raises(NotFound):
            library.node(wrong)
    with pytest.raises(NotADirectory):
        library.node("m/base/x")
    with pytest.raises(NotADirectory):
        library.children(library.node("m/base"))
    for outside in ("..", "m/../../x", "m/missing/../base"):
        with pytest.raises(NotFound):
            library.node(outside)
    for directory in ("", "m", "m/sub"):
        with pytest.raises(IsADirectory):
            library.read(directory)


def test_a_closed_content_of_one_file_does_not_close_another(library: Library) -> None:
    one, other = (library.open(library.node("m/base")) for _ in range(2))
    one.close()
    assert bytes(other.read(0, 100)) == FILES[b"base"][:100]
    other.close()


@pytest.mark.parametrize("cache_nbytes", [0, FRAME_NBYTES, 64 << 20])
def test_many_threads_read_the_same_files(path: Path, cache_nbytes: int) -> None:
    """Whether or not anything stays in memory; a fine-tune asks for frames of its base meanwhile."""
    with open_store(path, read_only=True, cache_nbytes=cache_nbytes) as store, Reader(store.frames) as reader:
        opened = {name: open_content(store, reader, served_inode(store, b"m/" + name)) for name in (b"base", b"tuned")}

        def read(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(12):
                name = chance.choice([b"base", b"tuned"])
                offset = chance.randrange(len(FILES[name]) + 100)
                nbytes = chance.choice([1, 4096, 131_072, FRAME_NBYTES + 5])
                expected = FILES[name][offset : offset + nbytes]
                cached = opened[name].read_cached(offset, nbytes)
                assert cached is None or bytes(cached) == expected
                assert bytes(opened[name].read(offset, nbytes)) == expected

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(8)))
        for content in opened.values():
            content.close()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BlobId, int]]:
    """The frames that were decoded, in order."""
    frames: list[tuple[BlobId, int]] = []

    def counting(targets: Sequence[Target], counters: FrameCounters) -> list[memoryview]:
        frames.extend((target.source.blob.id, target.number) for target in targets)
        return fetch_frames(targets, counters)

    monkeypatch.setattr(cache, "fetch_frames", counting)
    return frames


def test_a_frame_is_decoded_once_however_many_ask(path: Path, decoded: list[tuple[BlobId, int]]) -> None:
    with open_store(path, read_only=True, cache_nbytes=64 << 20) as store, Reader(store.frames) as reader:
        contents = {
            name: open_content(store, reader, served_inode(store, b"m/" + name)) for name in (b"base", b"tuned")
        }
        started = threading.Barrier(6)

        def read(number: int) -> bool:
            started.wait()
            name = (b"base", b"tuned")[number % 2]
            whole = bytes(contents[name].read(0, len(FILES[name])))
            part = bytes(contents[name].submit(1000, 5000).result())
            return whole == FILES[name] and part == FILES[name][1000:6000]

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(read, range(6)))
        tuned = [frame for frame in decoded if frame[0] == max(decoded)[0]]
        assert len(tuned) == len(set(tuned))
        # A frame of the base may be decoded for its own file, and once more for all the files that need it.
        assert max(Counter(decoded).values()) <= 2
        for content in contents.values():
            content.close()


@pytest.mark.parametrize("cache_nbytes", [0, 2 * FRAME_NBYTES, 64 << 20])
def test_memory_for_frames_is_bounded(path: Path, cache_nbytes: int) -> None:
    with open_store(path, read_only=True, cache_nbytes=cache_nbytes) as store, Reader(store.frames) as reader:
        content = open_content(store, reader, served_inode(store, b"m/tuned"))
        for offset in range(0, content.nbytes, 65_536):
            content.read(offset, 65_536)
            assert store.frames.budget.used_nbytes <= cache_nbytes
        content.close()
        assert reader.nbytes == 0


def test_a_failed_decoding_is_told_to_all_who_wait_and_tried_again(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"f", noise(5000))
    (pack,) = (tmp_path / "store" / "packs").iterdir()
    good = pack.read_bytes()
    pack.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    with open_store(tmp_path / "store", read_only=True) as store:
        content = open_content(store, Reader(store.frames), served_inode(store, b"f"))
        for _ in range(2):
            with pytest.raises(PackDamaged) as told:
                content.read(0, 10)
            assert str(pack) in str(told.value)
            assert "blob 1" in str(told.value)
        pack.write_bytes(good)
        assert bytes(content.read(0, 5000)) == noise(5000)
        content.close()


def test_spooled_content_reads_like_stored_content(tmp_path: Path) -> None:
    content = noise(300_000)
    with open_store(tmp_path / "store", create=True) as store:
        copy_in(store, b"f", content)
        seal_everything(store)
        _check_ranges(store, content)
        compress(store)
        _check_ranges(store, content)


def _check_ranges(store: Store, expected: bytes) -> None:
    opened = open_content(store, Reader(store.frames), served_inode(store, b"f"))
    assert opened.nbytes == len(expected)
    for offset, nbytes in ((0, 10), (299_990, 100), (300_000, 5), (10**12, 5), (5, 0), (0, 10**9), (131_071, 2)):
        wanted = expected[offset : offset + nbytes]
        assert bytes(opened.read(offset, nbytes)) == wanted
        if nbytes < 10**6:
            cached = opened.read_cached(offset, nbytes)
            assert cached is None or bytes(cached) == wanted
    opened.close()


def test_a_spool_file_that_cannot_be_read_is_damage_and_no_traceback(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with Reader(FrameCache(0)) as reader:
        content = SpooledContent(directory, "spool/1", reader)  # reading a directory fails as a broken disk would
        with pytest.raises(Damaged, match="spool/1"):
            content.read(0, 10)
        with pytest.raises(Damaged, match="spool/1"):
            content.submit(0, 10).result()
        assert content.read_cached(0, 10) is None
        content.close()


@pytest.mark.parametrize(
    "damage", ["SET frames = x''", "SET pack_offset = -1", "SET base_id = 999999", "SET shape = 7"]
)
def test_a_damaged_row_spoils_no_more_than_its_own_tensor(tmp_path: Path, damage: str) -> None:
    raws = {"good": BASE[:1_000_000], "bad": noise(1_000_000)}
    content = tensor_file({name: ("BF16", [500_000], raw) for name, raw in raws.items()})
    path = make_store(tmp_path, {b"m": content})
    good, bad = (content.index(raw) for raw in raws.values())
    with open_store(path, read_only=True) as store, Reader(store.frames) as reader:
        inode = served_inode(store, b"m")
        extent = next(one for one in store.catalog.extents(inode) if one.offset == bad)
        with closing(sqlite3.connect(path / "catalog.db")) as db, db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute(f"UPDATE blobs {damage} WHERE id = ?", (extent.blob_id,))
        found = open_content(store, reader, inode)
        assert bytes(found.read(good, 1_000_000)) == BASE[:1_000_000]
        with pytest.raises(CatalogDamaged):
            found.read(bad, 100)
        found.close()


@pytest.mark.parametrize("name", ["'0123456789abcdef'", "1234567890123456", "1.5"])
def test_a_pack_whose_name_is_damaged_is_told_as_damage(tmp_path: Path, name: str) -> None:
    path = make_store(tmp_path, {b"m": model(BASE)})
    with open_store(path, read_only=True) as store, Reader(store.frames) as reader:
        with closing(sqlite3.connect(path / "catalog.db")) as db, db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute(f"UPDATE packs SET name = {name}")
        with pytest.raises(CatalogDamaged):
            open_content(store, reader, served_inode(store, b"m"))
