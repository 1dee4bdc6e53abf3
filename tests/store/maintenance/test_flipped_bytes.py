"""Bytes of a small store changed in turn: a read gives the right bytes or a clear error, never anything else.

With HYPOTHESIS_PROFILE=thorough a pack and a manifest log are tried whole, and of the catalog every byte that is not
zero, and of the zeros (free room in SQLite's pages, nine in ten bytes of so small a one) every 53rd; otherwise each
fifth of these. What changes in a byte differs from place to place, so that all bits take part.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import (
    base_of,
    compress,
    contents,
    copy_in,
    import_path,
    model,
    noise,
    outcome,
    put_file,
    served_inode,
    tensor_file,
    tuned,
    weights,
    write_tree,
)
from zipfs.errors import CatalogDamaged, Damaged, NotFound, ZipfsError
from zipfs.ingest.queue import seal_everything
from zipfs.library import Library
from zipfs.reading import Reader, open_content
from zipfs.store.frames.cache import FrameCache
from zipfs.store.maintenance.check import check
from zipfs.store.maintenance.problem import Problem
from zipfs.store.objects.values import Kind
from zipfs.store.store import Store, open_store

pytestmark = pytest.mark.slow

BASE = weights(200)
FILES = {
    b"m/base.safetensors": model(BASE),
    b"m/tuned.safetensors": model(tuned(BASE)),
    b"m/odd.safetensors": tensor_file(
        {"a": ("U8", [3], b"\1\2\3"), "e": ("F32", [0], b""), "b": ("I8", [5], b"12345")}
    ),
    b"m/config.json": b'{"hidden_size": 8}\n' * 3,
    b"m/same.json": b'{"hidden_size": 8}\n' * 3,
    b"n/\xff\xfe": noise(50, 3),
    b"empty": b"",
}
EVERY = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 5
SPOOLED = {b"late/waiting": noise(30, 4)}
ALL = {**FILES, **SPOOLED}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flipped")
    path = root / "store"
    with open_store(path, create=True) as store:
        put_file(store, root, b"m/base.safetensors", FILES[b"m/base.safetensors"])
        for top in ("m", "n"):
            files = {name[2:]: content for name, content in FILES.items() if name.startswith(top.encode())}
            import_path(store, write_tree(root / top, files), top.encode())
        copy_in(store, b"empty", b"")
        compress(store)
        copy_in(store, b"late/waiting", SPOOLED[b"late/waiting"])
        seal_everything(store)
        assert base_of(store, b"m/tuned.safetensors")[-1] is not None
        sql(store.catalog, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert not (path / "catalog.db-wal").exists()
    assert contents(path) == ALL
    return path


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "store"))


def mask(at: int) -> int:
    """Which bits of a byte are turned over: one of them, or all."""
    return (1, 0x80, 0xFF, 0x10, 2, 0x40, 4, 0x20, 8)[at % 9]


@contextmanager
def flipped(file: Path, at: int) -> Iterator[None]:
    fd = os.open(file, os.O_RDWR)
    try:
        original = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([original[0] ^ mask(at)]), at)
        yield
        os.pwrite(fd, original, at)
    finally:
        os.close(fd)


def read_all(path: Path) -> dict[bytes, bytes | ZipfsError]:
    """Every file by its path, and by listing; whatever can be read is read."""
    found: dict[bytes, bytes | ZipfsError] = {}
    try:
        with Library(path) as library:
            for name in ALL:
                found[name] = outcome(library, name)
            try:
                listed = [node for node in library.walk(library.node("")) if node.inode.kind is Kind.FILE]
            except ZipfsError:
                listed = []
            for node in listed:
                found.setdefault(node.path, outcome(library, node.path))
    except ZipfsError as error:
        return dict.fromkeys(ALL, error)
    return found


def wrong(found: dict[bytes, bytes | ZipfsError]) -> dict[bytes, bytes]:
    """What was read and is not what was written there."""
    return {
        name: content
        for name, content in found.items()
        if not isinstance(content, ZipfsError) and content != ALL.get(name)
    }


def found_problems(path: Path) -> list[Problem]:
    """What a check tells; a store that cannot even be opened tells by its error."""
    try:
        with open_store(path, read_only=True) as store:
            return list(check(store))
    except Damaged as error:
        return [Problem("catalog", str(path), str(error))]


def read_afresh(store: Store) -> dict[bytes, bytes | ZipfsError]:
    """Every file, with nothing decoded in memory."""
    store.frames = FrameCache(1 << 20)
    found: dict[bytes, bytes | ZipfsError] = {}
    for name, content in ALL.items():
        try:
            with Reader(store.frames) as reader:
                opened = open_content(store, reader, served_inode(store, name))
                found[name] = bytes(opened.read(0, len(content) + 1))
                opened.close()
        except ZipfsError as error:
            found[name] = error
    return found


def assert_told(found: dict[bytes, bytes | ZipfsError], told: list[Problem]) -> None:
    """A check names every file that could not be read, or else the catalog where that was the reason: where it is not
    sound as a database, the check ends there.
    """
    serious = [problem for problem in told if not problem.harmless]
    named = {os.fsencode(name) for problem in serious for name in problem.paths}
    catalog = [problem for problem in serious if problem.part == "catalog"]
    if any(not problem.paths for problem in catalog):
        return
    for name, content in found.items():
        if isinstance(content, ZipfsError):
            in_catalog = isinstance(content, CatalogDamaged | NotFound)
            assert name in named or (in_catalog and bool(catalog)), (name, str(content), serious)


def test_bytes_of_every_pack(path: Path) -> None:
    packs = sorted((path / "packs").iterdir())
    assert len(packs) >= 2
    with open_store(path, read_only=True) as store:
        for pack in packs:
            for at in range(0, pack.stat().st_size, EVERY):
                with flipped(pack, at):
                    found = read_afresh(store)
                    assert wrong(found) == {}, (pack.name, at)
                    told = list(check(store, read_data=True))
                    assert any(problem.where == str(pack) for problem in told), (pack.name, at)
                    assert_told(found, told)
    assert contents(path) == ALL


def test_bytes_of_the_manifest_log(path: Path) -> None:
    """Reading does not need the log; a check tells what is wrong with it."""
    (log,) = (path / "manifests").iterdir()
    with open_store(path, read_only=True) as store:
        for at in range(0, log.stat().st_size, EVERY):
            with flipped(log, at):
                assert any(problem.where == str(log) for problem in check(store)), at
                if at % 16 == 0:
                    assert read_afresh(store) == ALL, at


SLICES = 4


@pytest.mark.parametrize("part", range(SLICES))
def test_bytes_of_the_catalog(path: Path, part: int) -> None:
    """A check ends in a list of problems and nothing else; it is made for a quarter of what does not stop a read."""
    catalog = path / "catalog.db"
    original = catalog.read_bytes()
    places = [at for at, byte in enumerate(original) if byte or at % 53 == 0]
    for at in places[part :: SLICES * EVERY]:
        with flipped(catalog, at):
            found = read_all(path)
            assert wrong(found) == {}, at
            if at % 4 == 0 or any(isinstance(content, ZipfsError) for content in found.values()):
                assert_told(found, found_problems(path))
    assert catalog.read_bytes() == original
    assert contents(path) == ALL
