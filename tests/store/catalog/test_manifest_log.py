"""The log of the tree survives what can happen to it: torn ends, a power cut, a kill before the commit, compaction."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import (
    all_problems,
    collect_garbage,
    contents,
    import_path,
    noise,
    problems,
    put_file,
    remove,
    write_tree,
)
from zipfs.errors import CatalogDamaged, ManifestDamaged
from zipfs.store.catalog import log_record
from zipfs.store.catalog.log_record import Changes
from zipfs.store.catalog.transaction import compact
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, Area, BlobId, Entry, Extent, Inode, InodeId, Kind, PackName, State, is_name
from zipfs.store.store import Store, open_store

ids = st.integers(1, 2**62).map(InodeId)
names = st.binary(min_size=1, max_size=255).filter(is_name)
numbers = st.integers(0, 2**62)
owners = st.integers(0, 2**32 - 1)
times = st.integers(-(2**62), 2**62)


@st.composite
def inodes(draw: st.DrawFn, inode_id: InodeId) -> Inode:
    kind = draw(st.sampled_from(Kind))
    states = [State.OPEN, State.SEALED, State.STORED] if kind is Kind.FILE else [State.NONE]
    return Inode(
        inode_id,
        kind,
        draw(st.sampled_from(states)),
        draw(st.integers(0, 0o7777)),
        draw(owners),
        draw(owners),
        draw(numbers),
        draw(times),
        draw(times),
        draw(names) if kind is Kind.SYMLINK else None,
        draw(numbers),
        draw(st.none() | st.binary(min_size=32, max_size=32)),
        draw(numbers),
        draw(st.none() | times),
    )


@st.composite
def changes(draw: st.DrawFn) -> Changes:
    made = Changes(next_inode=draw(numbers), next_blob=draw(numbers))
    for inode_id in draw(st.lists(ids, max_size=5, unique=True)):
        made.inodes[inode_id] = draw(st.none() | inodes(inode_id))
    for key in draw(st.lists(st.tuples(ids, names), max_size=5, unique=True)):
        made.entries[key] = draw(
            st.none() | st.builds(Entry, st.just(key[0]), st.just(key[1]), ids, st.sampled_from(Area))
        )
    for key in draw(st.lists(st.tuples(ids, names), max_size=3, unique=True)):
        made.xattrs[key] = draw(st.none() | st.binary(max_size=40))
    for inode_id in draw(st.lists(ids, max_size=3, unique=True)):
        extents, offset = [], 0
        for nbytes, blob, start in draw(st.lists(st.tuples(st.integers(1, 2**40), numbers, numbers), max_size=4)):
            extents.append(Extent(offset, nbytes, BlobId(blob), start))
            offset += nbytes
        made.extents[inode_id] = tuple(extents)
    for name in draw(st.lists(st.binary(min_size=16, max_size=16), max_size=3, unique=True)):
        made.packs[PackName(name)] = draw(st.booleans())
    return made


@given(st.lists(changes(), max_size=4), st.integers(0, 2**40))
def test_any_changes_come_back_from_their_records(many: list[Changes], first: int) -> None:
    data = b"".join(log_record.encode(one, first + number) for number, one in enumerate(many))
    found = list(log_record.decode(data, "log", 32))
    assert [entry.changes for entry in found] == many
    assert [entry.seq for entry in found] == [first + number for number in range(len(many))]
    assert not found or found[-1].end == 32 + len(data)


@given(changes(), st.data())
def test_a_record_cut_short_or_altered_is_refused(one: Changes, data: st.DataObject) -> None:
    first, second = log_record.encode(Changes(next_inode=5), 1), log_record.encode(one, 2)
    cut = data.draw(st.integers(1, len(second) - 1))
    altered = bytearray(second)
    altered[data.draw(st.integers(0, len(second) - 1))] ^= data.draw(st.integers(1, 255))
    for broken in (second[:cut], bytes(altered)):
        decoded = log_record.decode(first + broken, "log", 0)
        assert next(decoded).seq == 1
        with pytest.raises(ManifestDamaged):
            next(decoded)


@pytest.mark.parametrize(
    "document",
    [
        "[]", "null", "3", '"x"', '{"inodes": 3}', '{"inodes": [3]}', '{"inodes": [{}]}', '{"inodes": [[]]}',
        '{"entries": [[1, "n", 2]]}', '{"entries": [[1, 2, 3, 4]]}', '{"entries": [[1, "n", 2, 9]]}',
        '{"xattrs": [[1, "n", "zz"]]}', '{"extents": [[1, [[1]]]]}', '{"extents": [[1, 5]]}', '{"packs": [3]}',
        '{"packs": ["zz"]}', '{"dropped_entries": [1]}', '{"next_inode": "x"}', '{"next_blob": null}', "{", "",
        '{"inodes": [{"id": 1, "kind": "x"}]}', '{"dropped_inodes": [[]]}', "[" * 5000,
    ],
)  # fmt: skip
def test_a_record_that_says_what_cannot_be_is_refused(document: str) -> None:
    """Also when its checksum is right."""
    payload = document.encode()
    checksum = xxhash.xxh3_64_intdigest(payload, seed=1 << 8)
    with pytest.raises(ManifestDamaged):
        list(log_record.decode(log_record.RECORD_HEADER.pack(len(payload), 0, 1, checksum) + payload, "log", 0))


FILES = {b"m/a": noise(40, 1), b"m/\xff\xfe": b"not UTF-8", b"m/empty": b""}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with open_store(path, create=True) as store:
        import_path(store, write_tree(tmp_path / "m", {name[2:]: content for name, content in FILES.items()}), b"m")
    return path


def add_directory(store: Store, name: bytes) -> None:
    with store.transaction() as txn:
        tree.make_directories(txn, name)


def log_of(path: Path) -> Path:
    (log,) = (path / "manifests").glob("*.log")
    return log


@pytest.mark.slow
def test_a_torn_record_at_the_end_is_cut_off_wherever_it_was_torn(path: Path, tmp_path: Path) -> None:
    log = log_of(path)
    whole = log.read_bytes()
    with open_store(path) as store:
        seq = store.catalog.position().seq
    torn = log_record.encode(Changes(next_inode=77), seq + 1)
    for cut in range(1, len(torn)):
        log.write_bytes(whole + torn[:cut])
        assert contents(path) == FILES
        with open_store(path):
            assert log.read_bytes() == whole, cut
    with open_store(path) as store:
        add_directory(store, b"later")
        assert problems(store) == []


def test_what_was_logged_and_not_committed_is_applied_by_the_next_writer(path: Path, tmp_path: Path) -> None:
    before = tmp_path / "catalog.before"
    shutil.copy(path / "catalog.db", before)
    with open_store(path) as store:
        put_file(store, tmp_path, b"n/late", b"logged, and then the power went")
        remove(store, b"m/a")
    shutil.copy(before, path / "catalog.db")  # as if the commits had never been made
    assert contents(path) == FILES
    with open_store(path) as store:
        assert problems(store) == []
    assert contents(path) == {
        b"n/late": b"logged, and then the power went",
        **{name: content for name, content in FILES.items() if name != b"m/a"},
    }


def test_a_log_that_lost_its_end_in_a_power_cut_goes_on_with_a_snapshot(path: Path, tmp_path: Path) -> None:
    log = log_of(path)
    durable = log.read_bytes()
    with open_store(path) as store:
        add_directory(store, b"not/synced")
    log.write_bytes(durable)
    assert {problem.part for problem in all_problems(path)} == {"manifests"}
    with open_store(path) as store:
        add_directory(store, b"later")
        assert problems(store) == []
        collect_garbage(store)
        assert problems(store) == []
    assert contents(path) == FILES
    rebuild(path)
    assert contents(path) == FILES
    with open_store(path) as store:
        assert tree.resolve(store.catalog, b"not/synced").is_directory
        assert tree.resolve(store.catalog, b"later").is_directory


def test_a_missing_log_is_written_anew_from_the_catalog(path: Path) -> None:
    log_of(path).unlink()
    assert contents(path) == FILES
    assert [problem.part for problem in all_problems(path)] == ["manifests"]
    with open_store(path) as store:
        add_directory(store, b"later")
        assert problems(store) == []
    rebuild(path)
    assert contents(path) == FILES


@pytest.mark.parametrize("wrong", ["offset - 5", "offset - 1", "offset - 30"])
def test_good_records_are_not_cut_off_because_the_catalog_is_wrong_about_them(path: Path, wrong: str) -> None:
    with open_store(path) as store:
        add_directory(store, b"later")
    log = log_of(path)
    whole = log.read_bytes()
    db = sqlite3.connect(path / "catalog.db")
    db.execute(f"UPDATE position SET offset = {wrong}")
    db.commit()
    db.close()
    with pytest.raises(CatalogDamaged):
        open_store(path)
    assert any(not problem.harmless for problem in all_problems(path))
    assert log.read_bytes() == whole
    rebuild(path)
    with open_store(path) as store:
        assert problems(store) == []
        assert tree.resolve(store.catalog, b"later").is_directory
    assert contents(path) == FILES


def test_compaction_changes_nothing_but_the_length_of_the_log(path: Path) -> None:
    with open_store(path) as store:
        tree_before = list(tree.walk(store.catalog, store.catalog.inode(ROOT)))
        for _ in range(50):
            with store.transaction() as txn:
                txn.put_inode(store.catalog.inode(ROOT))
        long_nbytes = log_of(path).stat().st_size
        compact(store.catalog, store.manifests, store.packs)
        assert log_of(path).stat().st_size < long_nbytes / 2
        assert list(tree.walk(store.catalog, store.catalog.inode(ROOT))) == tree_before
        assert problems(store) == []
        add_directory(store, b"later")
        assert problems(store) == []
    rebuild(path)
    assert contents(path) == FILES


def test_another_user_of_the_store_follows_a_compaction(path: Path) -> None:
    with open_store(path) as one, open_store(path) as other:
        add_directory(one, b"by-one")
        compact(other.catalog, other.manifests, other.packs)
        one.sync()
        add_directory(one, b"by-one-again")
        compact(other.catalog, other.manifests, other.packs)
        add_directory(other, b"by-other")
        one.sync()
        assert problems(one) == []
        assert problems(other) == []
    rebuild(path)
    with open_store(path) as store:
        for name in (b"by-one", b"by-one-again", b"by-other"):
            assert tree.resolve(store.catalog, name).is_directory


def test_ids_in_use_are_not_given_again_by_a_damaged_counter(path: Path, tmp_path: Path) -> None:
    """Otherwise a new tensor would be taken for an old one of the same id."""
    db = sqlite3.connect(path / "catalog.db")
    db.execute("UPDATE counters SET next = 1")
    db.commit()
    db.close()
    with open_store(path) as store:
        put_file(store, tmp_path, b"n/new", noise(40, 2))
        assert problems(store) == []
    assert contents(path) == {**FILES, b"n/new": noise(40, 2)}
