"""How the extents of a file are stored, and what was predicted of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.sample import files
from tests.support.sql import sql
from tests.support.stores import (
    badly_based_family,
    changed,
    import_path,
    model,
    optimize_all,
    put_file,
    remove,
    served_inode,
    tensor_file,
    tuned,
    weights,
    write_tree,
)
from zipfs.bases.similarity.base_choice import Reason
from zipfs.inspect.inventory import take_inventory
from zipfs.inspect.provenance import StoredExtent, stored_extents
from zipfs.inspect.storage_method import StorageMethod
from zipfs.store.disk.progress import report_nothing
from zipfs.store.store import Store

ITEMS = 40_000
BASE = weights(ITEMS)


def tensor_extents(store: Store, path: bytes) -> list[StoredExtent]:
    return [stored for stored in stored_extents(store, served_inode(store, path)) if stored.blob.dtype]


def test_a_fine_tune_is_against_its_base_as_was_predicted(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"base", model(BASE))
    put_file(store, tmp_path / "x", b"tuned", model(tuned(BASE)))
    (stored,) = tensor_extents(store, b"tuned")
    assert stored.method is StorageMethod.WHOLE_BASE
    assert stored.shared_with is None
    assert stored.base is not None
    assert stored.base.place is not None
    assert stored.base.place.inode_id == served_inode(store, b"base").id
    assert stored.added_nbytes == stored.blob.stored_nbytes
    assert stored.prediction is not None
    bits = stored.added_nbytes * 8 / ITEMS
    assert stored.prediction.against == pytest.approx(bits, abs=0.5)
    assert stored.prediction.standalone == pytest.approx(11, abs=1)
    assert stored.prediction.best_other is None  # there is no other that resembles it
    (of_base,) = tensor_extents(store, b"base")
    assert (of_base.method, of_base.members, of_base.base) == (StorageMethod.STANDALONE, 1, None)
    assert of_base.prediction is not None
    assert of_base.prediction.against is None
    assert of_base.prediction.standalone == pytest.approx(of_base.added_nbytes * 8 / ITEMS, rel=0.05)


def test_the_next_best_base_is_named(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"base", model(BASE))
    hidden = sql(store.catalog, "SELECT blob_id, signature FROM signatures")
    sql(store.catalog, "DELETE FROM signatures")
    sql(store.catalog, "DELETE FROM anchors")
    put_file(store, tmp_path / "x", b"other", model(tuned(tuned(BASE, 5), 6)))
    store.catalog._db.executemany("INSERT INTO signatures (blob_id, signature) VALUES (?, ?)", hidden)
    put_file(store, tmp_path / "x", b"tuned", model(tuned(BASE)))
    (of_other,) = tensor_extents(store, b"other")
    assert of_other.method is StorageMethod.STANDALONE
    assert of_other.prediction is not None
    assert of_other.prediction.best_other is not None
    assert of_other.prediction.best_other < of_other.prediction.standalone
    (stored,) = tensor_extents(store, b"tuned")
    assert stored.base is not None
    assert stored.prediction is not None
    assert stored.prediction.against is not None
    assert stored.prediction.best_other is not None
    assert stored.prediction.against < stored.prediction.best_other < stored.prediction.standalone
    places = {stored.base.place, stored.prediction.other}
    assert {place.inode_id for place in places if place is not None} == {
        served_inode(store, b"base").id,
        served_inode(store, b"other").id,
    }


def reasons(store: Store, path: bytes) -> list[Reason | None]:
    return [stored.reason for stored in stored_extents(store, served_inode(store, path))]


def test_the_reasons_of_an_ingest_are_found_again(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"base", model(BASE))
    put_file(store, tmp_path / "x", b"tuned", model(tuned(BASE)))
    put_file(store, tmp_path / "x", b"same", model(BASE, name="other"))
    put_file(store, tmp_path / "x", b"stranger", model(weights(ITEMS, 9)))
    put_file(store, tmp_path / "x", b"slice", model(BASE[8000:60_000]))
    put_file(store, tmp_path / "x", b"cut", model(tuned(BASE[8000:60_000])))
    put_file(store, tmp_path / "x", b"zeros", model(bytes(2 * ITEMS)))
    put_file(store, tmp_path / "x", b"later", model(tuned(BASE, 3)))
    assert [
        reasons(store, path)[-1] for path in (b"base", b"tuned", b"same", b"stranger", b"slice", b"cut", b"zeros")
    ] == [
        Reason.NO_CANDIDATE,
        Reason.SMALLEST,
        Reason.EQUAL,
        Reason.NO_CANDIDATE,
        Reason.EQUAL_RANGE,
        Reason.RANGE,
        Reason.CONSTANT,
    ]
    assert reasons(store, b"base")[0] is Reason.NO_FEATURES  # the header


def test_what_was_to_be_a_base_itself_is_told(store: Store, tmp_path: Path) -> None:
    centre = changed(BASE, 7, 1.0, 78)
    put_file(store, tmp_path / "x", b"outlier", model(BASE))
    for number in range(3):
        put_file(store, tmp_path / "x", b"%d" % number, model(changed(centre, 2, 0.1, number)))
    found = [reasons(store, b"%d" % number)[-1] for number in range(3)]
    assert found == [Reason.SMALLEST, Reason.NEW_BASE, Reason.SMALLEST]


def test_what_the_optimizer_planned_is_told(store: Store, tmp_path: Path) -> None:
    family = badly_based_family(20_000)
    for path, content in family.items():
        put_file(store, tmp_path / "x", path, content)
    optimize_all(store)
    assert reasons(store, b"run/0")[-1] is Reason.PLANNED  # what came first is against what came later
    (base,) = (path for path in family if tensor_extents(store, path)[0].base is None)
    assert reasons(store, base)[-1] is Reason.PLANNED  # it has members that came before it


def test_no_reason_is_guessed_where_nothing_is_kept_of_a_large_tensor(store: Store, tmp_path: Path) -> None:
    large = weights(600_000, 1)
    put_file(store, tmp_path / "x", b"base", model(large))
    put_file(store, tmp_path / "x", b"tuned", model(tuned(large)))
    sql(store.catalog, "DELETE FROM sketches")
    assert [reasons(store, path)[-1] for path in (b"base", b"tuned")] == [None, None]


def test_what_is_shared_counts_for_the_first(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"one", model(BASE))
    put_file(store, tmp_path / "x", b"two", model(BASE, name="other"))
    (stored,) = tensor_extents(store, b"two")
    assert (stored.method, stored.added_nbytes, stored.prediction) == (StorageMethod.SHARED, 0, None)
    assert stored.shared_with is not None
    assert stored.shared_with.inode_id == served_inode(store, b"one").id
    remove(store, b"one")
    (stored,) = tensor_extents(store, b"two")
    assert (stored.method, stored.shared_with) == (StorageMethod.STANDALONE, None)


def test_a_base_that_no_file_has_any_more_has_no_place(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"base", model(BASE))
    put_file(store, tmp_path / "x", b"tuned", model(tuned(BASE)))
    remove(store, b"base")
    (stored,) = tensor_extents(store, b"tuned")
    assert stored.base is not None
    assert stored.base.place is None


def test_a_tensor_twice_in_one_file_is_shared_within(store: Store, tmp_path: Path) -> None:
    twice = tensor_file({"a": ("BF16", [ITEMS], BASE), "b": ("BF16", [ITEMS], BASE)})
    put_file(store, tmp_path / "x", b"tied", twice)
    first, second = tensor_extents(store, b"tied")
    assert (first.method, second.method) == (StorageMethod.STANDALONE, StorageMethod.SHARED)
    assert second.shared_with is not None
    assert second.shared_with.offset == first.extent.offset


def test_a_file_and_the_inventory_tell_the_same(store: Store, tmp_path: Path) -> None:
    content = {name.encode(): raw for name, raw in sorted(files(2).items())}
    import_path(store, write_tree(tmp_path / "m", content), b"m")
    inventory = take_inventory(store, report_nothing)
    methods: Counter[StorageMethod] = Counter()
    for file, rows in zip(inventory.files, inventory.extents_of_files(), strict=True):
        extents = stored_extents(store, served_inode(store, file.path))
        told = [(stored.extent.offset, stored.extent.nbytes, stored.method, stored.added_nbytes) for stored in extents]
        table = inventory.extents
        columns = (table.offset[rows], table.nbytes[rows], table.methods[rows], table.added_nbytes[rows])
        assert told == list(zip(*(column.tolist() for column in columns), strict=True))
        methods.update(stored.method for stored in extents)
    assert set(methods) == set(StorageMethod) - {StorageMethod.SPOOL}
