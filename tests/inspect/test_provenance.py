"""How the pieces of a file are stored, and what was predicted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sample import files
from tests.support.sql import sql
from tests.support.stores import (
    import_path,
    model,
    put_file,
    remove,
    served_inode,
    tensor_file,
    tuned,
    weights,
    write_tree,
)
from zipfs.inspect.inventory import Way, take_census
from zipfs.inspect.provenance import Piece, pieces_of
from zipfs.store.store import Store, open_store

ITEMS = 40_000
BASE = weights(ITEMS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


def tensor_pieces(store: Store, path: bytes) -> list[Piece]:
    return [piece for piece in pieces_of(store, served_inode(store, path)) if piece.blob.dtype]


def test_a_fine_tune_is_against_its_base_as_was_predicted(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"base", model(BASE))
    put_file(store, tmp_path / "x", b"tuned", model(tuned(BASE)))
    (piece,) = tensor_pieces(store, b"tuned")
    assert piece.way is Way.DELTA
    assert piece.shared_with is None
    assert piece.base is not None
    assert piece.base.place is not None
    assert piece.base.place.inode_id == served_inode(store, b"base").id
    assert piece.added_nbytes == piece.blob.stored_nbytes
    assert piece.prediction is not None
    bits = piece.added_nbytes * 8 / ITEMS
    assert piece.prediction.against == pytest.approx(bits, abs=0.5)
    assert piece.prediction.alone == pytest.approx(11, abs=1)
    assert piece.prediction.best_other is None  # there is no other that resembles it
    (of_base,) = tensor_pieces(store, b"base")
    assert (of_base.way, of_base.members, of_base.base) == (Way.ALONE, 1, None)
    assert of_base.prediction is not None
    assert of_base.prediction.against is None
    assert of_base.prediction.alone == pytest.approx(of_base.added_nbytes * 8 / ITEMS, rel=0.05)


def test_the_next_best_base_is_named(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"base", model(BASE))
    hidden = sql(store.catalog, "SELECT blob_id, signature FROM signatures")
    sql(store.catalog, "DELETE FROM signatures")
    sql(store.catalog, "DELETE FROM anchors")
    put_file(store, tmp_path / "x", b"other", model(tuned(tuned(BASE, 5), 6)))
    store.catalog._db.executemany("INSERT INTO signatures (blob_id, signature) VALUES (?, ?)", hidden)
    put_file(store, tmp_path / "x", b"tuned", model(tuned(BASE)))
    (of_other,) = tensor_pieces(store, b"other")
    assert of_other.way is Way.ALONE
    assert of_other.prediction is not None
    assert of_other.prediction.best_other is not None
    assert of_other.prediction.best_other < of_other.prediction.alone
    (piece,) = tensor_pieces(store, b"tuned")
    assert piece.base is not None
    assert piece.prediction is not None
    assert piece.prediction.against is not None
    assert piece.prediction.best_other is not None
    assert piece.prediction.against < piece.prediction.best_other < piece.prediction.alone
    places = {piece.base.place, piece.prediction.other}
    assert {place.inode_id for place in places if place is not None} == {
        served_inode(store, b"base").id,
        served_inode(store, b"other").id,
    }


def test_what_is_shared_counts_for_the_first(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"one", model(BASE))
    put_file(store, tmp_path / "x", b"two", model(BASE, name="other"))
    (piece,) = tensor_pieces(store, b"two")
    assert (piece.way, piece.added_nbytes, piece.prediction) == (Way.SHARED, 0, None)
    assert piece.shared_with is not None
    assert piece.shared_with.inode_id == served_inode(store, b"one").id
    remove(store, b"one")
    (piece,) = tensor_pieces(store, b"two")
    assert (piece.way, piece.shared_with) == (Way.ALONE, None)


def test_a_base_that_no_file_has_any_more_has_no_place(store: Store, tmp_path: Path) -> None:
    put_file(store, tmp_path / "x", b"base", model(BASE))
    put_file(store, tmp_path / "x", b"tuned", model(tuned(BASE)))
    remove(store, b"base")
    (piece,) = tensor_pieces(store, b"tuned")
    assert piece.base is not None
    assert piece.base.place is None


def test_a_tensor_twice_in_one_file_is_shared_within(store: Store, tmp_path: Path) -> None:
    twice = tensor_file({"a": ("BF16", [ITEMS], BASE), "b": ("BF16", [ITEMS], BASE)})
    put_file(store, tmp_path / "x", b"tied", twice)
    first, second = tensor_pieces(store, b"tied")
    assert (first.way, second.way) == (Way.ALONE, Way.SHARED)
    assert second.shared_with is not None
    assert second.shared_with.offset == first.extent.offset


def test_files_and_the_census_tell_the_same(store: Store, tmp_path: Path) -> None:
    content = {name.encode(): raw for name, raw in sorted(files(2).items())}
    import_path(store, write_tree(tmp_path / "m", content), b"m")
    census = take_census(store, lambda what, done, total: None)
    ways: Counter[Way] = Counter()
    for file, rows in zip(census.files, census.uses_of_files(), strict=True):
        pieces = pieces_of(store, served_inode(store, file.path))
        told = [(piece.extent.offset, piece.extent.nbytes, piece.way, piece.added_nbytes) for piece in pieces]
        uses = census.uses
        columns = (uses.offset[rows], uses.nbytes[rows], uses.ways[rows], uses.added_nbytes[rows])
        assert told == list(zip(*(column.tolist() for column in columns), strict=True))
        ways.update(piece.way for piece in pieces)
    assert set(ways) == set(Way) - {Way.SPOOL}
