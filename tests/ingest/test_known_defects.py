"""Cases in which stores of this kind have been seen to lose bytes, and those that follow from how bases are chosen."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.formats.hostile import BITS_OF_DTYPE
from tests.support.sql import sql
from tests.support.stores import (
    Tensor,
    base_of,
    blob_ids,
    collect_garbage,
    contents,
    import_path,
    model,
    noise,
    outcome,
    problems,
    put_file,
    remove,
    run,
    served_inode,
    tensor_file,
    tuned,
    weights,
    write_tree,
)
from zipfs.errors import Damaged
from zipfs.ingest import import_tree, inspect
from zipfs.ingest.execute import PackExecution
from zipfs.ingest.import_tree import find
from zipfs.ingest.inspect import Inspector
from zipfs.library import Library
from zipfs.store.maintenance.collect import collect
from zipfs.store.packs.writer import PackWriter
from zipfs.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as store:
        yield store
        assert problems(store) == []


def test_two_tensors_of_one_fingerprint_stay_apart(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash finds candidates; bytes decide. Here all hashes are equal, within a pack and between packs."""

    class Constant:
        def update(self, data: bytes) -> None:
            return

        def digest(self) -> bytes:
            return b"\x11" * 16

    monkeypatch.setattr(inspect, "xxhash", SimpleNamespace(xxh3_128=Constant))
    files = {f"f{n}".encode(): noise(3000, n % 4) for n in range(8)}
    import_path(store, write_tree(tmp_path / "one", files), b"one")
    import_path(store, write_tree(tmp_path / "two", {**files, b"g": noise(3000, 9)}), b"two")
    monkeypatch.undo()
    expected = {b"one/" + name: content for name, content in files.items()}
    expected |= {b"two/" + name: content for name, content in files.items()} | {b"two/g": noise(3000, 9)}
    assert contents(store.path) == expected
    assert sql(store.catalog, "SELECT count(*) FROM blobs") == [(5,)]
    # What the false hash left in the catalog is no damage that a check should tell.
    for name in expected:
        remove(store, name)
    collect_garbage(store)


def test_equal_content_is_kept_once(store: Store, tmp_path: Path) -> None:
    shared = weights(50_000)
    first = tensor_file({"a": ("BF16", [50_000], shared), "b": ("F32", [100], noise(400, 1))})
    second = tensor_file({"other": ("BF16", [500, 100], shared)}, pad=77)
    put_file(store, tmp_path, b"one", first)
    before = sum(store.catalog.packs().values())
    put_file(store, tmp_path, b"two", second)
    put_file(store, tmp_path, b"three", second)
    assert sum(store.catalog.packs().values()) - before < 2000
    assert blob_ids(store, b"two")[-1] in blob_ids(store, b"one")
    assert blob_ids(store, b"three") == blob_ids(store, b"two")
    assert contents(store.path) == {b"one": first, b"two": second, b"three": second}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", sorted(BITS_OF_DTYPE))
def test_every_dtype_alone_near_a_base_and_equal_to_it(dtype: str, store: Store, tmp_path: Path) -> None:
    nbytes = 24_000
    items = nbytes * 8 // BITS_OF_DTYPE[dtype]
    raw = np.random.default_rng(1).integers(0, 50, nbytes, np.uint8)
    near = raw ^ (np.random.default_rng(2).random(nbytes) < 0.02).view(np.uint8)
    files = {
        name: tensor_file({"w": (dtype, [items], content.tobytes())}, pad)
        for name, content, pad in ((b"base", raw, 0), (b"near", near, 8), (b"equal", raw, 16))
    }
    for name, content in files.items():
        put_file(store, tmp_path, name, content)
    assert contents(store.path) == files
    assert blob_ids(store, b"equal")[-1] == blob_ids(store, b"base")[-1]
    assert base_of(store, b"near")[-1] == blob_ids(store, b"base")[-1]


def test_odd_sized_and_empty_tensors(store: Store, tmp_path: Path) -> None:
    sizes = [0, 1, 2, 3, 7, 8, 9, 0, 1001, 4095]
    tensors: dict[str, Tensor] = {f"t{n}": ("U8", [size], noise(size, n)) for n, size in enumerate(sizes)}
    tensors["empty-matrix"] = ("F32", [3, 0, 5], b"")
    tensors["scalar"] = ("F64", [], noise(8, 99))
    files = {b"odd": tensor_file(tensors), b"only-empty": tensor_file({"e": ("BF16", [0], b"")}), b"nothing": b""}
    for name, content in files.items():
        put_file(store, tmp_path, name, content)
    assert contents(store.path) == files


def test_one_tensor_name_in_two_shards(store: Store, tmp_path: Path) -> None:
    shards = {
        b"model-00001-of-00002.safetensors": tensor_file({"lm_head.weight": ("BF16", [9000], weights(9000, 1))}),
        b"model-00002-of-00002.safetensors": tensor_file({"lm_head.weight": ("BF16", [9000], weights(9000, 2))}),
    }
    import_path(store, write_tree(tmp_path / "source", shards), b"m")
    assert contents(store.path) == {b"m/" + name: content for name, content in shards.items()}


@pytest.mark.parametrize("pads", [(0, 1), (5, 0), (0, 4000), (1000, 3)])
def test_headers_of_unequal_length_do_not_keep_a_base_from_being_found(
    pads: tuple[int, int], store: Store, tmp_path: Path
) -> None:
    base = weights(40_000)
    files = {
        b"base": tensor_file({"w": ("BF16", [200, 200], base)}, pads[0]),
        b"tuned": tensor_file({"renamed.layer": ("BF16", [200, 200], tuned(base))}, pads[1]),
    }
    for name, content in files.items():
        put_file(store, tmp_path, name, content)
    assert base_of(store, b"tuned")[-1] == blob_ids(store, b"base")[-1]
    assert contents(store.path) == files


def test_a_base_that_arrives_after_its_fine_tunes(store: Store, tmp_path: Path) -> None:
    """The first to come is the base of the others; no chain grows longer than one."""
    base = weights(40_000)
    order = {b"tuned-1": tuned(base, 1), b"tuned-2": tuned(base, 2), b"base": base, b"tuned-3": tuned(base, 3)}
    files = {name: model(raw, f"w{len(raw)}") for name, raw in order.items()}
    for name, content in files.items():
        put_file(store, tmp_path, name, content)
    assert contents(store.path) == files
    assert base_of(store, b"tuned-1")[-1] is None
    assert base_of(store, b"base")[-1] is not None
    _assert_depth_one(store)


@pytest.mark.parametrize("seed", range(4))
def test_chains_stay_short_in_whatever_order_a_family_comes(seed: int, store: Store, tmp_path: Path) -> None:
    base = weights(20_000)
    family = [base]
    for number in range(7):
        family.append(tuned(random.Random(seed * 10 + number).choice(family), number))
    random.Random(seed).shuffle(family)
    files = {f"f{number}".encode(): model(raw) for number, raw in enumerate(family)}
    import_path(store, write_tree(tmp_path / "s", dict(list(files.items())[:4])), b"a")
    import_path(store, write_tree(tmp_path / "t", dict(list(files.items())[4:])), b"b")
    _assert_depth_one(store)
    found = contents(store.path)
    assert {name[2:]: content for name, content in found.items()} == files


def _assert_depth_one(store: Store) -> None:
    rows = sql(
        store.catalog,
        "SELECT count(*) FROM blobs AS b JOIN blobs AS base ON base.id = b.base_id WHERE base.base_id IS NOT NULL",
    )
    assert rows == [(0,)]


def test_a_removed_base_stays_as_long_as_it_is_needed(store: Store, tmp_path: Path) -> None:
    base = weights(60_000)
    put_file(store, tmp_path, b"base", model(base))
    put_file(store, tmp_path, b"tuned-1", model(tuned(base, 1)))
    put_file(store, tmp_path, b"tuned-2", model(tuned(base, 2)))
    remove(store, b"base")
    remove(store, b"tuned-1")
    collected = collect_garbage(store)
    assert collected.freed_nbytes > 0
    assert contents(store.path) == {b"tuned-2": model(tuned(base, 2))}
    assert problems(store) == []
    # The base is known still: what comes next is coded against it, and the base itself costs nothing.
    put_file(store, tmp_path, b"tuned-3", model(tuned(base, 3)))
    assert base_of(store, b"tuned-3") == base_of(store, b"tuned-2")
    before = sum(store.catalog.packs().values())
    put_file(store, tmp_path, b"base-again", model(base))
    assert sum(store.catalog.packs().values()) - before < 1500
    assert served_inode(store, b"base-again").stored_nbytes > 1500  # no longer the bytes of nobody: they count for it

    for name in (b"tuned-2", b"tuned-3", b"base-again"):
        remove(store, name)
    collect_garbage(store)
    assert contents(store.path) == {}
    assert store.catalog.packs() == {}
    assert list((store.path / "packs").iterdir()) == []


def test_sparse_packs_are_rewritten_and_full_ones_left_alone(store: Store, tmp_path: Path) -> None:
    files = {f"f{number}".encode(): noise(50_000, number) for number in range(10)}
    import_path(store, write_tree(tmp_path / "s", files), b"m")
    put_file(store, tmp_path, b"alone", noise(200_000, 77))
    for number in range(1, 10):
        remove(store, f"m/f{number}".encode())
    before = set(store.catalog.packs())
    collected = collect_garbage(store)
    assert collected.packs_rewritten == 1
    assert collected.blobs_dropped == 9
    assert collected.freed_nbytes > 400_000
    assert len(before & set(store.catalog.packs())) == 1
    assert contents(store.path) == {b"m/f0": files[b"f0"], b"alone": noise(200_000, 77)}
    assert collect_garbage(store).packs_rewritten == 0


def test_a_damaged_base_is_not_built_upon(store: Store, tmp_path: Path) -> None:
    """What cannot be read is neither shared nor used as a base: new content does not suffer from old damage."""
    base = weights(30_000)
    put_file(store, tmp_path, b"base", model(base))
    (pack,) = (store.path / "packs").iterdir()
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.write_bytes(bytes(content))
    with open_store(store.path) as again:  # nothing that is in memory may help
        put_file(again, tmp_path, b"same", model(base))
        put_file(again, tmp_path, b"tuned", model(tuned(base)))
        found = contents_or_damage(again)
        assert found[b"same"] == model(base)
        assert found[b"tuned"] == model(tuned(base))
        assert found[b"base"] is None
        assert any("base" in problem.paths for problem in problems(again))
        remove(again, b"base")
        collect_garbage(again)
        assert contents(again.path) == {b"same": model(base), b"tuned": model(tuned(base))}


def contents_or_damage(store: Store) -> dict[bytes, bytes | None]:
    """Every file; None for one that cannot be read because of damage."""
    found: dict[bytes, bytes | None] = {}
    with Library(store.path) as library:
        for node in library.children(library.node("")):
            read = outcome(library, node.path)
            assert isinstance(read, bytes | Damaged)
            found[node.path] = read if isinstance(read, bytes) else None
    return found


def test_a_pack_that_does_not_hold_what_was_meant_is_never_committed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk (or codec) that garbles what is written is found before the raw bytes are let go."""
    original = PackWriter.append_frame

    def garbled(self: PackWriter, frame: bytes | memoryview) -> None:
        altered = bytearray(frame)
        altered[-1] ^= 1
        original(self, bytes(altered))

    monkeypatch.setattr(PackWriter, "append_frame", garbled)
    listener = put_file(store, tmp_path, b"file", noise(5000))
    monkeypatch.undo()
    assert len(listener.failures) == 1
    assert "decoded bytes do not match" in listener.failures[0]
    assert contents(store.path) == {}
    assert list((store.path / "packs").iterdir()) == []
    put_file(store, tmp_path, b"file", noise(5000))
    assert contents(store.path) == {b"file": noise(5000)}


CHANGES = ("grow", "shrink", "rewrite", "delete")
MOMENTS = {"read": (Inspector, "piece"), "encoded": (PackExecution, "carry_out"), "synced": (PackWriter, "sync")}
"""Methods after which the file changes: while it is read, while it is encoded, before it is compared."""


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_file_that_changes_while_it_is_stored_is_told_and_the_others_are_stored(
    change: str, moment: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = tensor_file({f"t{n}": ("U8", [30_000], noise(30_000, n)) for n in range(3)})
    files = {b"a": noise(40_000, 1), b"b": several, b"c": noise(40_000, 3), b"d": several}
    source = write_tree(tmp_path / "source", files)
    victim = source / "b"
    found = find(store, source, b"m")
    owner, method = MOMENTS[moment]
    original = getattr(owner, method)
    done: list[str] = []

    def disturb(self: object, *arguments: object, **keywords: object) -> object:
        result = original(self, *arguments, **keywords)
        names = {getattr(one, "name", None) for one in (getattr(self, "source", None), *arguments)}
        if not done and (not arguments or b"b" in names):
            done.append(change)
            if change == "grow":
                with open(victim, "ab") as file:
                    file.write(b"more")
            elif change == "shrink":
                os.truncate(victim, 40_000)
            elif change == "rewrite":
                with open(victim, "r+b") as file:
                    file.write(noise(len(several), 4))
                os.utime(victim, ns=(1, 1))
            else:
                victim.unlink()
        return result

    monkeypatch.setattr(owner, method, disturb)
    listener = run(store, found)
    assert done == [change]
    stored = contents(store.path)
    assert {name: stored[name] for name in (b"m/a", b"m/c", b"m/d")} == {
        b"m/a": files[b"a"],
        b"m/c": files[b"c"],
        b"m/d": files[b"d"],
    }
    if b"m/b" in stored:  # it was read to its end before, or can still be read
        assert stored[b"m/b"] == several
        assert change == "delete" or moment == "synced"
    else:
        assert len(listener.failures) == 1
        assert str(victim) in listener.failures[0]


def test_what_cannot_be_kept_is_skipped_and_named(store: Store, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", {b"a": b"1", b"x.incomplete": b"2", b".git/config": b"3"})
    os.mkfifo(source / "pipe")
    found = import_tree.find(store, source, b"m")
    assert {path.name for path in found.unfinished} == {"x.incomplete", ".git"}
    assert {path.name for path in found.no_files} == {"pipe"}
    with store.lock("pack").held("", waiting=None):
        collect(store)
