"""A catalog that is lost or destroyed is made anew, complete, from packs and manifests alone."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.stores import (
    base_of,
    blob_ids,
    collect_garbage,
    compress,
    contents,
    copy_in,
    import_path,
    model,
    noise,
    pending_names,
    problems,
    put_file,
    remove,
    served_inode,
    spooled,
    tuned,
    weights,
    write_tree,
)
from zipfs.bases.similarity.backfill import backfill_sketches
from zipfs.errors import CatalogDamaged, Damaged, NotAStore, StoreBusy
from zipfs.ingest.queue import seal_everything
from zipfs.library import Library
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.maintenance.repair import repair
from zipfs.store.namespace import tree
from zipfs.store.objects.values import INGEST_ROOT, ROOT
from zipfs.store.store import Store, open_store

BASE = weights(30_000)
FILES = {
    b"m/base.safetensors": model(BASE),
    b"m/tuned.safetensors": model(tuned(BASE)),
    b"m/sub/\xff\xfe": b"not UTF-8",
    b"m/config.json": b"{}",
    b"m/empty": b"",
}
WAITING = {b"late/waiting": noise(5000, 1)}
UNSEALED = {b"late/unsealed": noise(500, 2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    source = write_tree(tmp_path / "m", {name[2:]: content for name, content in FILES.items()})
    os.chmod(source / "config.json", 0o640)
    os.utime(source / "config.json", ns=(5, -1_234_567_890_123_456_789))
    os.setxattr(source / "config.json", "user.note", b"\0\xff kept")
    os.chmod(source / "sub", 0o1700)
    os.utime(source / "sub", ns=(7, 987_654_321_123_456_789))
    os.symlink(b"\xff/../config.json", os.fsencode(source / "link"))
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        import_path(store, source, b"m")
        put_file(store, tmp_path, b"removed", noise(5000, 3))
        remove(store, b"removed")
        for name, content in WAITING.items():
            copy_in(store, name, content)
        seal_everything(store)
        for name, content in UNSEALED.items():
            copy_in(store, name, content)
    return path


def picture(path: Path) -> dict[str, Any]:
    """Everything that a user can see of a store."""
    with open_store(path, read_only=True) as store:
        rows = {
            root: [
                (name, inode, store.catalog.xattrs(inode.id), store.catalog.extents(inode))
                for name, inode in tree.walk(store.catalog, store.catalog.inode(root))
            ]
            for root in (ROOT, INGEST_ROOT)
        }
        below = spooled(store)
        names = pending_names(store)
    return {"rows": rows, "contents": contents(path), "spool": below, "names": names}


def destroy_not_at_all(path: Path) -> None:
    return


def delete(path: Path) -> None:
    path.unlink()


def garble(path: Path) -> None:
    path.write_bytes(noise(path.stat().st_size, 4))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace_by_another(path: Path) -> None:
    with open_store(path.parent.parent / "another", create=True):
        pass
    shutil.copy(path.parent.parent / "another" / "catalog.db", path)


@pytest.mark.parametrize("harm", [destroy_not_at_all, delete, garble, empty, halve])
def test_nothing_is_missing_after_a_rebuild(harm: Callable[[Path], None], path: Path, tmp_path: Path) -> None:
    before = picture(path)
    assert before["contents"] == {**FILES, **WAITING}
    assert before["spool"] == {**WAITING, **UNSEALED}
    harm(path / "catalog.db")
    if harm is not destroy_not_at_all:
        with pytest.raises((NotAStore, CatalogDamaged)), open_store(path) as store:
            served_inode(store, b"m/config.json")
    rebuilt = rebuild(path)
    assert rebuilt.lost == []
    assert picture(path) == before
    with open_store(path) as store:
        assert problems(store) == []
        assert store.catalog.inode(served_inode(store, b"m/config.json").id).sha256 is not None
        compress(store)
        collect_garbage(store)
        assert problems(store) == []
    assert contents(path) == {**FILES, **WAITING, **UNSEALED}


def test_attributes_survive(path: Path) -> None:
    (path / "catalog.db").unlink()
    rebuild(path)
    with Library(path) as library:
        config, link, sub = (library.node(f"m/{name}", follow=False) for name in ("config.json", "link", "sub"))
        assert config.mode == stat.S_IFREG | 0o640
        assert config.inode.mtime_ns == -1_234_567_890_123_456_789
        assert library.xattrs(config) == {b"user.note": b"\0\xff kept"}
        assert link.inode.target == b"\xff/../config.json"
        assert sub.mode == stat.S_IFDIR | 0o1700
        assert sub.inode.mtime_ns == 987_654_321_123_456_789


def test_ids_go_on_where_they_were(path: Path, tmp_path: Path) -> None:
    with open_store(path) as store:
        inode, blob = store.reserve_inode_id(), store.reserve_blob_id()
        put_file(store, tmp_path, b"last", noise(2000, 5))
        last = served_inode(store, b"last").id
        remove(store, b"last")
        collect_garbage(store)
    assert last > inode
    rebuild(path)
    with open_store(path) as store:
        assert store.reserve_inode_id() > last
        assert store.reserve_blob_id() > blob


def test_bases_are_found_again_after_a_rebuild(path: Path, tmp_path: Path) -> None:
    rebuild(path)
    with open_store(path) as store:
        backfill_sketches(store, lambda what, done, total: None)
        put_file(store, tmp_path, b"tuned-2", model(tuned(BASE, 7)))
        assert base_of(store, b"tuned-2")[-1] in blob_ids(store, b"m/base.safetensors")


def test_a_rebuild_waits_for_nobody_and_disturbs_nobody(path: Path) -> None:
    with open_store(path), pytest.raises(StoreBusy):
        rebuild(path)
    with Library(path), pytest.raises(StoreBusy):
        rebuild(path)
    rebuild(path)
    assert contents(path) == {**FILES, **WAITING}


def test_what_is_lost_is_named_and_the_rest_is_there(path: Path) -> None:
    with open_store(path) as store:
        name = store.catalog.blob(store.catalog.extents(served_inode(store, b"m/config.json"))[0].blob_id).pack
        store.packs.delete(name)
        told = problems(store)
        assert {path for problem in told for path in problem.paths} >= {"m/config.json"}
    rebuilt = rebuild(path)
    assert any("m/config.json" in line for line in rebuilt.lost)
    with Library(path) as library:
        assert library.read(b"late/waiting") == WAITING[b"late/waiting"]
        assert library.read(b"m/empty") == b""
        with pytest.raises(Damaged):
            library.read(b"m/config.json")


def test_a_pack_that_was_never_committed_does_not_get_in_the_way(path: Path, tmp_path: Path) -> None:
    """Its ids may have been given again since, if the power went."""
    twin = Path(shutil.copytree(path, tmp_path / "twin"))
    with open_store(twin) as store:
        put_file(store, tmp_path, b"x", noise(3000, 6))
    with open_store(path) as store:
        put_file(store, tmp_path, b"y", noise(3000, 7))
    known = {pack.name for pack in (path / "packs").iterdir()}
    for pack in (twin / "packs").iterdir():
        if pack.name not in known:
            shutil.copy(pack, path / "packs")
    rebuilt = rebuild(path)
    assert rebuilt.lost == []
    assert contents(path) == {**FILES, **WAITING, b"y": noise(3000, 7)}
    with open_store(path) as store:
        collect_garbage(store)
        assert problems(store) == []
    assert contents(path) == {**FILES, **WAITING, b"y": noise(3000, 7)}


def test_a_damaged_index_is_mended_from_the_catalog(path: Path) -> None:
    for pack in list((path / "packs").iterdir()):
        content = bytearray(pack.read_bytes())
        content[-45] ^= 0xFF  # in the index, before the trailer
        pack.write_bytes(bytes(content))
    assert contents(path) == {**FILES, **WAITING}  # frames need no index
    with open_store(path) as store:
        found = problems(store)
        assert found
        _mend(store)
        assert problems(store) == []
    assert contents(path) == {**FILES, **WAITING}
    rebuild(path)
    assert contents(path) == {**FILES, **WAITING}


def test_a_damaged_log_is_mended_from_the_catalog(path: Path) -> None:
    (log,) = (path / "manifests").iterdir()
    content = bytearray(log.read_bytes())
    content[100] ^= 1
    log.write_bytes(bytes(content))
    with open_store(path) as store:
        assert {problem.part for problem in problems(store)} == {"manifests"}
        _mend(store)
        assert problems(store) == []
    before = picture(path)
    rebuild(path)
    assert picture(path) == before


def _mend(store: Store) -> None:
    with store.lock("pack").held("", waiting=None):
        repair(store, problems(store))


def test_a_catalog_of_another_store_is_not_taken_for_ours(path: Path) -> None:
    replace_by_another(path / "catalog.db")
    for read_only in (False, True):
        with pytest.raises(CatalogDamaged):
            open_store(path, read_only=read_only)
    rebuild(path)
    assert contents(path) == {**FILES, **WAITING}


def test_a_hostile_store_directory_is_refused_with_a_reason(path: Path) -> None:
    marker = path / "ZIPFS"
    for content in ("", "{", "[]", "null", '{"format": "x"}', '{"format": 1, "id": "zz"}', '{"format": 1, "id": ""}'):
        marker.write_text(content)
        with pytest.raises(NotAStore):
            open_store(path)
    marker.write_bytes(noise(100))
    with pytest.raises(NotAStore):
        open_store(path)
