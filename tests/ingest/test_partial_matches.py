"""Tensors that share a range with others, cut, grown, fused or cast, are found and stored in few bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.sql import sql
from tests.support.stores import (
    collect_garbage,
    contents,
    problems,
    put_file,
    remove,
    served_inode,
    tensor_file,
)
from zipfs.bases.similarity.backfill import backfill_samples, backfill_sketches
from zipfs.codec import Cast, item_nbytes
from zipfs.library import Library
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.store import Store, open_store

Bytes = NDArray[np.uint8]

WIDTH = 256
ROW = 2 * WIDTH


def matrix(rows: int, seed: int) -> bytes:
    """BF16 rows as a model has them."""
    values = np.random.default_rng(seed).normal(0, 0.05, rows * WIDTH).astype("<f4")
    return (values.view("<u4") >> 16).astype("<u2").tobytes()


def tuned(raw: bytes, seed: int, change: float = 2e-4) -> bytes:
    """BF16 items after a little training."""
    values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    moved = values + np.random.default_rng(seed).normal(0, change, values.size).astype("<f4")
    return cast(moved.tobytes(), "F32", "BF16")


def cast(raw: bytes, source: str, target: str) -> bytes:
    out = bytearray(len(raw) // item_nbytes(source) * item_nbytes(target))
    Cast(source, target).apply(raw, out)
    return bytes(out)


def master(raw: bytes, seed: int) -> bytes:
    """F32 items that `raw`, BF16, was rounded from."""
    low = np.random.default_rng(seed).integers(-0x7FFF, 0x7FFF, len(raw) // 2)
    return ((np.frombuffer(raw, "<u2").astype("<i8") << 16) + low).astype("<u4").tobytes()


def file_of(raw: bytes, dtype: str = "BF16", width: int = WIDTH) -> bytes:
    return tensor_file({"w": (dtype, [len(raw) // item_nbytes(dtype) // width, width], raw)})


class Shelf:
    """A store that files are put in one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store: Store = open_store(root / "store", create=True)
        self.files: dict[bytes, bytes] = {}

    def put(self, content: bytes) -> int:
        """Store a file; how many bytes that took."""
        name = b"f%d" % len(self.files)
        assert put_file(self.store, self.root / "scratch", name, content).failures == []
        self.files[name] = content
        return served_inode(self.store, name).stored_nbytes

    def check(self) -> None:
        assert problems(self.store) == []
        assert contents(self.root / "store") == self.files
        self.store.close()
        assert rebuild(self.root / "store").lost == []
        assert contents(self.root / "store") == self.files


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.store.close()


BASE = matrix(2400, 1)
OTHER = matrix(2400, 2)
NEW_ROWS = matrix(40, 3)
STANDALONE = 10.8 / 8 / 2
"""Stored bytes for each byte of a BF16 matrix that has no relative."""
OVERHEAD = 1200
"""Header, tables and what else files have."""


def test_a_matrix_without_a_match_is_coded_standalone(shelf: Shelf) -> None:
    shelf.put(file_of(OTHER))
    assert 0.95 * STANDALONE < shelf.put(file_of(BASE)) / len(BASE) < STANDALONE
    shelf.check()


EQUAL: dict[str, tuple[bytes, int]] = {
    "slice": (BASE[700 * ROW : 1900 * ROW], 0),
    "first rows": (BASE[: 1000 * ROW], 0),
    "last rows": (BASE[1000 * ROW :], 0),
    "rows added at the end": (BASE + NEW_ROWS, len(NEW_ROWS)),
    "rows added in front": (NEW_ROWS + BASE, len(NEW_ROWS)),
    "rows added inside": (BASE[: 1111 * ROW] + NEW_ROWS + BASE[1111 * ROW :], len(NEW_ROWS)),
    "rows removed inside": (BASE[: 1111 * ROW] + BASE[1300 * ROW :], 0),
    "the two halves swapped": (BASE[1200 * ROW :] + BASE[: 1200 * ROW], 0),
    "fused with another": (BASE + OTHER, 0),
    "fused with a part of another": (OTHER[300 * ROW : 1500 * ROW] + BASE, 0),
    "upcycled to four experts": (BASE * 4, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EQUAL)
def test_rows_that_are_stored_already_are_shared(shelf: Shelf, kind: str) -> None:
    raw, new_nbytes = EQUAL[kind]
    shelf.put(file_of(BASE))
    shelf.put(file_of(OTHER))
    assert shelf.put(file_of(raw)) < new_nbytes * STANDALONE + OVERHEAD
    shelf.check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", EQUAL)
def test_rows_that_were_changed_a_little_take_what_the_change_takes(shelf: Shelf, kind: str) -> None:
    raw, new_nbytes = EQUAL[kind]
    shelf.put(file_of(BASE))
    shelf.put(file_of(OTHER))
    raw = tuned(raw, 5)
    (shelf.root / "other").mkdir()
    change = Shelf(shelf.root / "other")
    change.put(file_of(BASE))
    per_byte = change.put(file_of(tuned(BASE, 6))) / len(BASE)
    change.store.close()
    assert shelf.put(file_of(raw)) < 1.05 * (len(raw) - new_nbytes) * per_byte + new_nbytes * STANDALONE + OVERHEAD
    shelf.check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", EQUAL)
def test_rows_of_a_tensor_that_has_a_base_are_shared_too(shelf: Shelf, kind: str) -> None:
    raw, new_nbytes = EQUAL[kind]
    moved = tuned(BASE, 5)
    raw = raw.replace(BASE, moved) if BASE in raw else cut_like(raw, moved)
    for content in (BASE, OTHER, moved):
        shelf.put(file_of(content))
    assert shelf.put(file_of(raw)) < new_nbytes * STANDALONE + OVERHEAD
    shelf.check()


def cut_like(raw: bytes, other: bytes) -> bytes:
    """`raw`, which is made of rows of BASE and others, with the same rows of `other` instead of those of BASE."""
    rows = {BASE[at : at + ROW]: other[at : at + ROW] for at in range(0, len(BASE), ROW)}
    return b"".join(rows.get(raw[at : at + ROW], raw[at : at + ROW]) for at in range(0, len(raw), ROW))


@pytest.mark.slow
@pytest.mark.parametrize("kind", EQUAL)
def test_a_tensor_that_was_put_together_is_shared_when_it_comes_again(shelf: Shelf, kind: str) -> None:
    raw, _ = EQUAL[kind]
    for content in (BASE, OTHER):
        shelf.put(file_of(content))
    shelf.put(file_of(tuned(raw, 5)))
    again = tensor_file({"other name": ("BF16", [len(raw) // ROW, WIDTH], tuned(raw, 5))})
    assert shelf.put(again) < OVERHEAD
    shelf.check()


@pytest.mark.parametrize("shape", [[2400 * WIDTH], [1200, 2 * WIDTH], [2, 1200, 16, 16], [WIDTH, 2400]])
def test_another_shape_and_name_make_no_difference(shelf: Shelf, shape: list[int]) -> None:
    shelf.put(file_of(BASE))
    assert (
        shelf.put(tensor_file({"model.layers.7.other": ("BF16", shape, BASE[: 1200 * ROW] + BASE[1200 * ROW :])})) < 200
    )
    assert shelf.put(tensor_file({"x": ("BF16", shape, tuned(BASE, 5))})) < 3.0 / 16 * len(BASE)
    shelf.check()


def test_experts_that_were_copied_from_one_are_stored_once(shelf: Shelf) -> None:
    assert shelf.put(file_of(BASE * 4)) < len(BASE) * STANDALONE + OVERHEAD
    assert shelf.put(file_of(BASE)) < OVERHEAD
    apart = tuned(OTHER, 1) + tuned(OTHER, 2) + tuned(OTHER, 3)
    assert shelf.put(file_of(apart)) < 1.9 * len(OTHER) * STANDALONE
    shelf.check()


def test_what_is_found_is_found_after_a_rebuild_too(shelf: Shelf) -> None:
    shelf.put(file_of(BASE))
    shelf.put(file_of(tuned(BASE, 1)))
    shelf.check()
    shelf.store = open_store(shelf.root / "store")
    backfill_sketches(shelf.store, lambda what, done, total: None)
    backfill_samples(shelf.store, lambda what, done, total: None)
    assert shelf.put(file_of(BASE[700 * ROW : 1900 * ROW])) < OVERHEAD
    assert shelf.put(file_of(tuned(BASE, 1)[700 * ROW : 1900 * ROW])) < OVERHEAD
    assert shelf.put(file_of(cast(BASE, "BF16", "F32"), "F32")) < OVERHEAD
    shelf.check()


def scaled(raw: bytes, source: str, target: str, divisor: np.float32) -> bytes:
    """Items divided by a scale, as quantised weights are."""
    values = np.frombuffer(raw if source == "F32" else cast(raw, source, "F32"), "<f4")
    return cast((values / divisor).astype("<f4").tobytes(), "F32", target)


STEP = np.float32(0.2 / 448)
QUANTISED = scaled(BASE, "BF16", "F8_E4M3", STEP)

CASTS: dict[str, tuple[bytes, str, bytes, str, float]] = {
    "BF16, then its F32 master": (BASE, "BF16", master(BASE, 4), "F32", 16.2),
    "F32 master, then its BF16": (master(BASE, 4), "F32", BASE, "BF16", 0.1),
    "BF16, then kept as F32": (BASE, "BF16", cast(BASE, "BF16", "F32"), "F32", 0.1),
    "kept as F32, then BF16": (cast(BASE, "BF16", "F32"), "F32", BASE, "BF16", 0.1),
    "BF16, then tuned and kept as F32": (BASE, "BF16", cast(tuned(BASE, 7), "BF16", "F32"), "F32", 3.2),
    "BF16, then kept as F16": (BASE, "BF16", cast(BASE, "BF16", "F16"), "F16", 0.1),
    "F16, then rounded to BF16": (cast(master(BASE, 4), "F32", "F16"), "F16", BASE, "BF16", 0.5),
    "BF16, then the F16 of the master": (BASE, "BF16", cast(master(BASE, 4), "F32", "F16"), "F16", 3.5),
    "F32, then F16": (master(BASE, 4), "F32", cast(master(BASE, 4), "F32", "F16"), "F16", 0.1),
    "F16, then F32": (cast(master(BASE, 4), "F32", "F16"), "F16", master(BASE, 4), "F32", 13.5),
    "BF16, then E4M3": (BASE, "BF16", cast(BASE, "BF16", "F8_E4M3"), "F8_E4M3", 0.1),
    "E4M3, then BF16": (cast(BASE, "BF16", "F8_E4M3"), "F8_E4M3", BASE, "BF16", 8.0),
    "BF16, then quantised": (BASE, "BF16", QUANTISED, "F8_E4M3", 0.1),
    "quantised, then BF16": (QUANTISED, "F8_E4M3", BASE, "BF16", 4.6),
    "F32, then quantised to E5M2": (
        master(BASE, 4),
        "F32",
        scaled(master(BASE, 4), "F32", "F8_E5M2", STEP),
        "F8_E5M2",
        0.1,
    ),
    "quantised, then back": (QUANTISED, "F8_E4M3", scaled(QUANTISED, "F8_E4M3", "BF16", 1 / STEP), "BF16", 0.1),
}
"""First tensor and its type, second and its type, bits an item that the second one may take."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASTS)
@pytest.mark.parametrize("cut", ["whole", "slice"])
def test_the_same_weights_of_another_type_are_found(shelf: Shelf, kind: str, cut: str) -> None:
    first, first_type, second, second_type, bits = CASTS[kind]
    if cut == "slice":
        second = second[len(second) // 4 : len(second) // 4 * 3]
    shelf.put(file_of(first, first_type))
    items = len(second) // item_nbytes(second_type)
    assert shelf.put(file_of(second, second_type)) < items * bits / 8 + OVERHEAD
    shelf.check()


def items(values: NDArray[np.float32]) -> bytes:
    return cast(values.astype("<f4").tobytes(), "F32", "BF16")


TRICKY: dict[str, tuple[str, bytes]] = {
    "zeros": ("BF16", bytes(300_000)),
    "one value": ("F32", b"\0\0\x80\xbf" * 100_000),
    "NaNs": ("F16", b"\xff\x7f\xff\xff" * 70_000),
    "signs in turn": ("BF16", b"\x80\x3f\x80\xbf" * 80_000),
    "one row again and again": ("BF16", matrix(1, 8) * 700),
    "a short pattern": ("BF16", matrix(1, 9)[:122] * 2500),
    "an odd end": ("F8_E4M3", matrix(300, 10)[:-1]),
    "tiny": ("F32", bytes(range(16))),
    "all positive": ("BF16", items(np.abs(np.random.default_rng(3).normal(0, 1, 60_000)).astype("<f4"))),
    "mostly zeros": ("BF16", items(np.where(np.arange(200_000) % 40, 0, 1.5).astype("<f4"))),
    "no numbers": ("I64", np.arange(30_000, dtype="<i8").tobytes()),
}


def test_tensors_that_say_little_are_stored_beside_each_other(shelf: Shelf) -> None:
    for _ in range(2):
        for dtype, raw in TRICKY.values():
            shelf.put(tensor_file({"w": (dtype, [len(raw) // item_nbytes(dtype)], raw), "v": ("U8", [len(raw)], raw)}))
            shelf.put(tensor_file({"w": (dtype, [len(raw) // 16], raw[: len(raw) // 16 * item_nbytes(dtype)])}))
    shelf.check()


def test_many_tensors_that_all_look_alike_are_listed_a_few_times_only(shelf: Shelf) -> None:
    signs = np.sign(np.random.default_rng(1).normal(0, 1, 4000))
    for seed in range(40):
        exponents = np.random.default_rng(seed + 2).integers(-30, 30, signs.size)
        shelf.put(file_of(items((signs * 2.0**exponents).astype("<f4")), width=100))
    (most,) = sql(shelf.store.catalog, "SELECT max(n) FROM (SELECT count(*) AS n FROM anchors GROUP BY hash)")[0]
    assert most == 16
    shelf.check()


def test_anchors_of_what_was_collected_go(shelf: Shelf) -> None:
    shelf.put(file_of(BASE))
    remove(shelf.store, b"f0")
    collect_garbage(shelf.store)
    assert sql(shelf.store.catalog, "SELECT count(*) FROM anchors") == [(0,)]
    assert sql(shelf.store.catalog, "SELECT count(*) FROM landmarks") == [(0,)]


def test_a_base_of_which_only_a_part_is_needed_is_not_collected(shelf: Shelf) -> None:
    shelf.put(file_of(BASE))
    shelf.put(file_of(master(BASE[: 900 * ROW], 3), "F32"))
    shelf.put(file_of(BASE[1000 * ROW :]))
    remove(shelf.store, b"f0")
    del shelf.files[b"f0"]
    collect_garbage(shelf.store)
    shelf.check()


def test_what_cannot_be_read_is_no_relative(shelf: Shelf) -> None:
    shelf.put(file_of(BASE))
    (pack,) = (shelf.root / "store" / "packs").iterdir()
    content = bytearray(pack.read_bytes())
    content[300_000] ^= 1
    pack.write_bytes(content)
    shelf.store.close()
    shelf.store = open_store(shelf.root / "store")
    for raw in (BASE[700 * ROW :], BASE + NEW_ROWS, tuned(BASE[900 * ROW :], 1)):
        shelf.put(file_of(raw))
    shelf.put(file_of(cast(BASE, "BF16", "F32"), "F32"))
    del shelf.files[b"f0"]
    found = contents_of(shelf)
    assert found == shelf.files


def contents_of(shelf: Shelf) -> dict[bytes, bytes]:
    with Library(shelf.root / "store") as library:
        return {name: library.read(name) for name in shelf.files}


PIECES = st.lists(
    st.tuples(
        st.sampled_from(["base", "other", "master", "new"]),
        st.integers(0, 200),
        st.integers(1, 200),
        st.sampled_from([0.0, 0.0, 1e-4, 1e-3]),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(files=st.lists(st.tuples(PIECES, st.sampled_from(["BF16", "F16", "F32"])), min_size=1, max_size=5))
def test_whatever_is_put_together_is_read_back(
    files: list[tuple[list[tuple[str, int, int, float]], str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(1)
    known = {name: rng.normal(0, 0.05, (300, WIDTH)).astype("<f4") for name in ("base", "other", "master", "new")}
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    shelf.put(file_of(cast(known["base"].tobytes(), "F32", "BF16")))
    shelf.put(file_of(cast(known["other"].tobytes(), "F32", "F16"), "F16"))
    shelf.put(file_of(known["master"].tobytes(), "F32"))
    for pieces, dtype in files:
        rows = [known[name][start : start + count] for name, start, count, _ in pieces]
        rows = [part + rng.normal(0, sigma, part.shape) for part, (*_, sigma) in zip(rows, pieces, strict=True)]
        raw = np.concatenate(rows).astype("<f4").tobytes()
        shelf.put(file_of(raw if dtype == "F32" else cast(raw, "F32", dtype), dtype))
    shelf.check()
    shelf.store.close()
    rmtree(shelf.root)
