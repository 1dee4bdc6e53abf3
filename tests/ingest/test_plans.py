"""What is stored of generated families stays the same to the byte: which bases, which parts, which frames.

`python -m tests.ingest.test_plans` writes plans/*.txt anew, which only a change of what is chosen on purpose calls for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.ingest.test_partial_matches import (
    BASE,
    CASTS,
    EQUAL,
    OTHER,
    TRICKY,
    WIDTH,
    cast,
    cut_like,
    file_of,
    items,
    tuned,
)
from tests.support.stored_plans import stored_plan
from tests.support.stores import (
    Listener,
    badly_based_family,
    changed,
    model,
    optimize_all,
    put_file,
    tensor_file,
    weights,
    write_tree,
)
from zipfs.codec import item_nbytes
from zipfs.ingest.import_tree import find
from zipfs.ingest.pipeline import Pipeline
from zipfs.store.store import Store, open_store

PLANS = Path(__file__).parent / "plans"

Files = dict[bytes, bytes]


def named(contents: Iterable[bytes]) -> Files:
    return {b"f%02d" % number: content for number, content in enumerate(contents)}


def _ranges() -> Iterator[bytes]:
    """Equal rows, changed rows and rows of a member, cut and put together."""
    yield file_of(BASE)
    yield file_of(OTHER)
    moved = tuned(BASE, 5)
    yield file_of(moved)
    for number, (raw, _) in enumerate(EQUAL.values()):
        yield file_of(raw)
        yield file_of(tuned(raw, 100 + number))
        if BASE not in raw:
            yield file_of(cut_like(raw, moved))


def _casts() -> Iterator[bytes]:
    for first, first_type, second, second_type, _ in CASTS.values():
        yield file_of(first, first_type)
        yield file_of(second, second_type)
        yield file_of(second[len(second) // 4 : len(second) // 4 * 3], second_type)


def _tricky() -> Iterator[bytes]:
    for dtype, raw in TRICKY.values():
        yield tensor_file({"w": (dtype, [len(raw) // item_nbytes(dtype)], raw), "v": ("U8", [len(raw)], raw)})
        yield tensor_file({"w": (dtype, [len(raw) // 16], raw[: len(raw) // 16 * item_nbytes(dtype)])})


def _pieces() -> Iterator[bytes]:
    """Tensors of random pieces of four others, of three types."""
    rng = np.random.default_rng(11)
    known = [rng.normal(0, 0.05, (300, WIDTH)).astype("<f4") for _ in range(4)]
    yield file_of(cast(known[0].tobytes(), "F32", "BF16"))
    yield file_of(cast(known[1].tobytes(), "F32", "F16"), "F16")
    yield file_of(known[2].tobytes(), "F32")
    for _ in range(24):
        rows = []
        for _ in range(rng.integers(1, 5)):
            start, count = int(rng.integers(0, 200)), int(rng.integers(1, 200))
            piece = known[rng.integers(0, 4)][start : start + count]
            rows.append(piece + rng.normal(0, rng.choice([0.0, 0.0, 1e-4, 1e-3]), piece.shape))
        raw = np.concatenate(rows).astype("<f4").tobytes()
        dtype = str(rng.choice(["BF16", "F16", "F32"]))
        yield file_of(raw if dtype == "F32" else cast(raw, "F32", dtype), dtype)


def _models() -> Iterator[bytes]:
    """Families of models of many tensors, of several lengths, with equal ones and small ones among them."""
    shapes = [(40, WIDTH), (40, WIDTH), (3, WIDTH), (WIDTH,), (7,), (200, 64), (900, WIDTH)]
    bases = []
    for family in range(3):
        rng = np.random.default_rng(500 + family)
        bases.append([items(rng.normal(0, 0.05, int(np.prod(shape))).astype("<f4")) for shape in shapes])
    order = [(family, member) for member in range(5) for family in range(3)]
    for family, member in order:
        tensors = {}
        for number, (shape, raw) in enumerate(zip(shapes, bases[family], strict=True)):
            is_tuned = member > 0 and (number + member) % 4 > 0
            own = changed(raw, 1 + (member + number) % 5, 0.6, 77 * member + number) if is_tuned else raw
            tensors[f"model.layers.{number}.weight"] = ("BF16", list(shape), own)
        yield tensor_file(tensors, pad=member)


def _alike() -> Iterator[bytes]:
    """Bases that are about as good as each other, so that samples are coded to tell."""
    centre = weights(90_000, 5)
    for number in range(12):
        yield model(changed(centre, 3 + number % 6, 0.5, 40 + number))


def one_by_one(store: Store, scratch: Path, files: Files) -> None:
    for name, content in files.items():
        assert put_file(store, scratch, name, content).failures == []


def in_one_batch(store: Store, scratch: Path, files: Files) -> None:
    write_tree(scratch / "tree", files)
    pipeline = Pipeline(store, Listener())
    try:
        pipeline.run(find(store, scratch / "tree", b"").sources)
    finally:
        pipeline.close()


def with_rebase(store: Store, scratch: Path, files: Files) -> None:
    """As `zipfs ingest` does it: small families change over to better bases as they grow."""
    for name, content in files.items():
        path = scratch / "content"
        path.write_bytes(content)
        pipeline = Pipeline(store, Listener())
        try:
            pipeline.run(find(store, path, name).sources)
            pipeline.rebase()
        finally:
            pipeline.close()


def with_optimize(store: Store, scratch: Path, files: Files) -> None:
    one_by_one(store, scratch, files)
    optimize_all(store)


def with_hole(store: Store, scratch: Path, files: Files) -> None:
    for name, content in files.items():
        path = scratch / "sparse"
        path.write_bytes(content)
        with open(path, "r+b") as file:
            file.seek(9 << 20)
            file.write(content)
            file.truncate(30 << 20)
        pipeline = Pipeline(store, Listener())
        try:
            pipeline.run(find(store, path, name).sources)
        finally:
            pipeline.close()


Way = Callable[[Store, Path, Files], None]

SCENARIOS: dict[str, tuple[Way, Callable[[], Iterable[bytes]]]] = {
    "ranges-one-by-one": (one_by_one, _ranges),
    "ranges-in-one-batch": (in_one_batch, _ranges),
    "casts-one-by-one": (one_by_one, _casts),
    "casts-in-one-batch": (in_one_batch, _casts),
    "tricky-in-one-batch": (in_one_batch, lambda: [*_tricky(), *_tricky()]),
    "pieces-one-by-one": (one_by_one, _pieces),
    "pieces-in-one-batch": (in_one_batch, _pieces),
    "models-one-by-one": (one_by_one, _models),
    "models-in-one-batch": (in_one_batch, _models),
    "models-with-optimize": (with_optimize, _models),
    "alike-in-one-batch": (in_one_batch, _alike),
    "alike-with-rebase": (with_rebase, _alike),
    "bad-base-with-rebase": (with_rebase, lambda: badly_based_family(60_000).values()),
    "bad-base-with-optimize": (with_optimize, lambda: badly_based_family(20_000).values()),
    "holes": (with_hole, lambda: [b"head and tail", weights(3000), b"head and tail"]),
}


def recorded(name: str, root: Path) -> str:
    way, files = SCENARIOS[name]
    root.mkdir(exist_ok=True)
    with open_store(root / "store", create=True) as store:
        way(store, root, named(files()))
        return stored_plan(store)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_is_chosen_and_stored(tmp_path: Path, name: str) -> None:
    assert recorded(name, tmp_path) == (PLANS / f"{name}.txt").read_text()


def main() -> None:
    for name in SCENARIOS:
        with tempfile.TemporaryDirectory() as scratch:
            (PLANS / f"{name}.txt").write_text(recorded(name, Path(scratch)))


if __name__ == "__main__":
    main()
