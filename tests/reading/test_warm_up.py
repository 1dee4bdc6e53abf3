"""A mount is ready for its first reader: what leads to the newest files is in memory, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stores import make_store, model, served_inode, tuned, weights
from zipfs.errors import Damaged
from zipfs.reading import Reader, open_content
from zipfs.reading.warm_up import warm_up
from zipfs.store.store import open_store

BASE = weights(1_500_000)
FILES = {b"base": model(BASE), b"tuned": model(tuned(BASE)), b"readme": b"a model"}


def test_what_leads_to_a_file_is_in_memory(tmp_path: Path) -> None:
    """SQLite looks at the file again only if somebody has changed it through SQLite."""
    path = make_store(tmp_path, FILES)
    with open_store(path, read_only=True) as store, Reader(store.frames) as reader:
        warm_up(store)
        catalog = path / "catalog.db"
        with catalog.open("r+b") as file:
            file.write(bytes(catalog.stat().st_size))
        for name, content in FILES.items():
            found = open_content(store, reader, served_inode(store, name))
            assert bytes(found.read(0, len(content))) == content
            found.close()


def test_nothing_of_the_files_is_kept(tmp_path: Path) -> None:
    with open_store(make_store(tmp_path, FILES), read_only=True) as store:
        warm_up(store)
        assert store.frames.budget.used_nbytes == 0


@pytest.mark.parametrize("files", [{}, {b"empty": b""}, {b"readme": b"a model"}, {b"base": FILES[b"base"]}])
def test_stores_without_fine_tunes(tmp_path: Path, files: dict[bytes, bytes]) -> None:
    with open_store(make_store(tmp_path, files), read_only=True) as store:
        warm_up(store)
        assert store.frames.budget.used_nbytes == 0


@pytest.mark.parametrize("what", ["gone", "cut", "zeros"])
def test_damage_is_told_to_whoever_reads_it_and_keeps_nobody_from_the_rest(tmp_path: Path, what: str) -> None:
    path = make_store(tmp_path, FILES)
    for pack in (path / "packs").iterdir():
        if what == "gone":
            pack.unlink()
        else:
            with pack.open("r+b") as file:
                file.truncate(40)
                file.truncate(pack.stat().st_size if what == "cut" else 100_000_000)
    with open_store(path, read_only=True) as store, Reader(store.frames) as reader:
        warm_up(store)
        assert store.frames.budget.used_nbytes == 0
        with pytest.raises(Damaged):
            open_content(store, reader, served_inode(store, b"tuned")).read(0, 100)
