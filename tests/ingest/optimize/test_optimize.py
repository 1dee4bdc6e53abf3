"""What was coded against a bad base is rebased to a better one, and nobody who reads it notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import (
    Listener,
    all_problems,
    badly_based_family,
    base_of,
    blob_ids,
    changed,
    collect_garbage,
    contents,
    make_store,
    model,
    optimize_all,
    problems,
    put_file,
    remove,
    served_inode,
    tensor_file,
    weights,
)
from zipfs.bases.planning.planner import DEFAULT_PRICES
from zipfs.bases.similarity.backfill import backfill_sketches
from zipfs.codec import Cast, encode_frame
from zipfs.errors import CatalogDamaged, NoSpace
from zipfs.ingest import encode_blob
from zipfs.ingest.import_tree import find
from zipfs.ingest.optimize import after_ingest, run
from zipfs.ingest.optimize.run import Limits, optimize, plan_rebases
from zipfs.ingest.pipeline import Pipeline
from zipfs.library import Library
from zipfs.reading import Content, Reader, open_content
from zipfs.store.disk.stopping import Stop
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.counters import FrameCounters
from zipfs.store.frames.open_blob import OpenBlob
from zipfs.store.maintenance.collect import Collected
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store, open_store

pytestmark = pytest.mark.slow

FAMILY = badly_based_family(20_000)


def _quietly(what: str, done: int, total: int) -> None:
    return


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path, FAMILY)


def _stored_nbytes(store: Store) -> int:
    return sum(store.packs.nbytes(name) for name in store.packs.names())


def test_the_outlier_is_no_base_any_more(path: Path) -> None:
    with open_store(path) as store:
        outlier = blob_ids(store, b"run/0")[-1]
        assert {base_of(store, name)[-1] for name in FAMILY} == {None, outlier}
        before = _stored_nbytes(store)
        seen = plan_rebases(store, _quietly)
        done = optimize_all(store, prices=DEFAULT_PRICES)
        bases = {name: base_of(store, name)[-1] for name in FAMILY}
        assert bases[b"run/0"] is not None
        assert list(bases.values()).count(None) == 1
        assert done.rebased.tensors == len(FAMILY)
        assert done.rebased.saved_nbytes == pytest.approx(sum(plan.gain_nbytes for plan in seen.plans), rel=0.1)
        assert _stored_nbytes(store) < 0.8 * before
        assert problems(store) == []
    assert contents(path) == FAMILY
    assert all_problems(path) == []


def test_ids_and_sizes_stay_and_what_files_take_is_told_anew(path: Path) -> None:
    with open_store(path) as store:
        ids = {name: blob_ids(store, name) for name in FAMILY}
        before = {name: served_inode(store, name) for name in FAMILY}
        optimize_all(store)
        assert {name: blob_ids(store, name) for name in FAMILY} == ids
        for name, inode in before.items():
            assert served_inode(store, name).sha256 == inode.sha256
        taken = sum(served_inode(store, name).stored_nbytes for name in FAMILY)
        assert taken == sql(store.catalog, "SELECT sum(stored_nbytes) FROM blobs")[0][0]


def test_a_second_run_finds_nothing_to_do(path: Path) -> None:
    with open_store(path) as store:
        optimize_all(store, prices=DEFAULT_PRICES)
        assert plan_rebases(store, _quietly).plans == ()
        assert optimize_all(store, prices=DEFAULT_PRICES).rebased.tensors == 0


def test_a_dry_run_changes_nothing(path: Path) -> None:
    with open_store(path) as store:
        packs = store.catalog.packs()
        position = store.catalog.position()
        assert plan_rebases(store, _quietly).plans
        assert store.catalog.packs() == packs
        assert store.catalog.position() == position


@contextmanager
def _opened_before_and_after(path: Path) -> Iterator[tuple[dict[bytes, Content], dict[bytes, Content]]]:
    """Every file as it was opened before the store was optimized, and by another reader since."""
    with (
        open_store(path) as store,
        open_store(path, read_only=True, cache_nbytes=0) as other,
        Reader(other.frames) as before,
        Reader(other.frames) as after,
    ):
        held = {name: open_content(other, before, served_inode(other, name)) for name in FAMILY}
        optimize_all(store)
        fresh = {name: open_content(other, after, served_inode(other, name)) for name in FAMILY}
        yield held, fresh
        for content in (*held.values(), *fresh.values()):
            content.close()


def test_whoever_has_the_old_form_open_keeps_it(path: Path) -> None:
    with _opened_before_and_after(path) as (held, fresh):
        for name, content in FAMILY.items():
            assert bytes(held[name].read(0, len(content))) == content
            assert bytes(fresh[name].read(0, len(content))) == content


def test_readers_of_both_forms_at_once_do_not_wait_for_each_other(path: Path) -> None:
    """A member of yesterday is the base of today: each of the two forms needs the other tensor's frames."""
    names = list(FAMILY)
    wrong: list[bytes] = []

    def read(forms: dict[bytes, Content], step: int) -> None:
        for turn in range(20 * len(names)):
            name = names[turn * step % len(names)]
            if bytes(forms[name].read(0, len(FAMILY[name]))) != FAMILY[name]:
                wrong.append(name)

    with _opened_before_and_after(path) as both:
        threads = [
            threading.Thread(target=read, args=(forms, step), daemon=True)
            for forms in both
            for step in (1, len(FAMILY) - 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert wrong == []


def _open_blobs(store: Store) -> dict[bytes, OpenBlob]:
    return {name: store.open_blob(BlobId(blob_ids(store, name)[-1])) for name in FAMILY}


def test_two_forms_that_need_each_others_frames_are_decoded_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of each is claimed before either looks for its base, which is what the other one has claimed."""
    with open_store(path) as store:
        old = _open_blobs(store)
        _rebase_only(store)
        new = _open_blobs(store)
        (base,) = (name for name in FAMILY if new[name].base is None)
        members = {base: old[base], b"run/0": new[b"run/0"]}
        frames = FrameCache(64 << 20)
        claimed = threading.Barrier(2, timeout=30)
        decode = frames.decode

        def decode_when_both_are_claimed(source: OpenBlob, number: int, counters: FrameCounters) -> memoryview:
            claimed.wait()
            return decode(source, number, counters)

        monkeypatch.setattr(frames, "decode", decode_when_both_are_claimed)
        decoded: dict[bytes, bytes] = {}

        def read(name: bytes) -> None:
            decoded[name] = bytes(frames.frame(members[name], 0))

        threads = [threading.Thread(target=read, args=(name,), daemon=True) for name in members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert decoded == {name: FAMILY[name][-40_000:] for name in members}
        assert frames.nbytes >= 2 * 40_000


def test_a_base_of_which_others_use_views_stays_one_until_they_are_gone(path: Path, tmp_path: Path) -> None:
    outlier = weights(20_000, 77)
    cast = bytearray(2 * len(outlier))
    Cast("BF16", "F32").apply(outlier, cast)
    views = {
        b"cast": tensor_file({"w": ("F32", [20_000], bytes(cast))}),
        b"grown": model(changed(outlier, 2, 0.1, 5) + weights(3000, 6)),
    }
    with open_store(path) as store:
        base = blob_ids(store, b"run/0")[-1]
        for name, content in views.items():
            put_file(store, tmp_path, name, content)
            assert base in base_of(store, name)
        member = FAMILY[b"run/3"][-40_000:]
        put_file(store, tmp_path, b"slice", model(member[4000:36_000]))
        assert blob_ids(store, b"run/3")[-1] in blob_ids(store, b"slice")
        done = optimize_all(store)
        assert done.rebased.given_up == 0
        assert done.rebased.tensors
        assert base_of(store, b"run/0")[-1] is None
        assert {name: base in base_of(store, name) for name in views} == dict.fromkeys(views, True)
        assert problems(store) == []
        assert contents(path) == {**FAMILY, **views, b"slice": model(member[4000:36_000])}
        for name in views:
            remove(store, name)
        optimize_all(store)
        assert base_of(store, b"run/0")[-1] is not None
        assert problems(store) == []
    assert contents(path) == {**FAMILY, b"slice": model(member[4000:36_000])}
    (path / "catalog.db").unlink()
    assert rebuild(path).lost == []
    assert contents(path) == {**FAMILY, b"slice": model(member[4000:36_000])}


def test_ranges_of_the_new_base_are_found_and_those_of_the_old_one_lead_nowhere(path: Path, tmp_path: Path) -> None:
    with open_store(path) as store:
        optimize_all(store)
        (new_base,) = (name for name in FAMILY if base_of(store, name)[-1] is None)
        anchored = {row[0] for row in sql(store.catalog, "SELECT DISTINCT blob_id FROM anchors")}
        assert anchored == {blob_ids(store, new_base)[-1]}
        sampled = {row[0] for row in sql(store.catalog, "SELECT blob_id FROM landmarks")}
        assert sampled == {blob_ids(store, name)[-1] for name in FAMILY if name != new_base}  # short ones, of members
        grown = changed(FAMILY[new_base][-40_000:], 2, 0.1, 5) + weights(3000, 6)
        put_file(store, tmp_path, b"grown", model(grown))
        assert blob_ids(store, new_base)[-1] in base_of(store, b"grown")
        assert problems(store) == []


def test_a_rebuild_finds_the_new_forms(path: Path) -> None:
    with open_store(path) as store:
        _rebase_only(store)
        bases = {name: base_of(store, name) for name in FAMILY}
        sizes = sql(store.catalog, "SELECT id, stored_nbytes, base_id FROM blobs ORDER BY id")
    (path / "catalog.db").unlink()
    assert rebuild(path).lost == []
    assert contents(path) == FAMILY
    with open_store(path) as store:
        assert {name: base_of(store, name) for name in FAMILY} == bases
        assert sql(store.catalog, "SELECT id, stored_nbytes, base_id FROM blobs ORDER BY id") == sizes
        assert problems(store) == []
        backfill_sketches(store, _quietly)
        collect_garbage(store)
        assert problems(store) == []
    assert contents(path) == FAMILY


def _rebase_only(store: Store) -> None:
    """Without the collection at the end: the packs hold both forms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "collect", lambda store, report, sparse: Collected())
        assert optimize_all(store).rebased.tensors == len(FAMILY)


def test_a_log_that_is_behind_its_packs_is_caught_up_with(path: Path, tmp_path: Path) -> None:
    """The catalog of before, with the log and the packs of after, as a power cut can leave them."""
    with open_store(path) as store:
        sql(store.catalog, "PRAGMA wal_checkpoint(TRUNCATE)")
        before = (path / "catalog.db").read_bytes()
        _rebase_only(store)
        put_file(store, tmp_path, b"run/late", model(changed(weights(20_000, 77), 4, 1.0, 99)))
        bases = {name: base_of(store, name) for name in FAMILY}
    for part in path.glob("catalog.db-*"):
        part.unlink()
    (path / "catalog.db").write_bytes(before)
    with open_store(path) as store:
        assert {name: base_of(store, name) for name in FAMILY} == bases
        assert problems(store) == []


def test_a_dead_member_of_a_base_that_moves_is_forgotten_and_may_come_again(path: Path, tmp_path: Path) -> None:
    with open_store(path) as store:
        stray = model(changed(weights(20_000, 77), 4, 1.0, 99))
        put_file(store, tmp_path, b"stray", stray)
        remove(store, b"stray")
        _rebase_only(store)
        assert problems(store) == []
        put_file(store, tmp_path, b"stray", stray)
        assert problems(store) == []
    assert contents(path) == {**FAMILY, b"stray": stray}
    (path / "catalog.db").unlink()
    assert rebuild(path).lost == []
    assert contents(path) == {**FAMILY, b"stray": stray}


def test_a_base_that_no_file_needs_any_more_is_replaced_and_freed(path: Path) -> None:
    with open_store(path) as store:
        outlier = blob_ids(store, b"run/0")[-1]
        remove(store, b"run/0")
        optimize_all(store, prices=DEFAULT_PRICES)
        assert sql(store.catalog, "SELECT 1 FROM blobs WHERE id = ?", (outlier,)) == []
        assert problems(store) == []
    assert contents(path) == {name: content for name, content in FAMILY.items() if name != b"run/0"}


def test_a_limit_is_kept_and_the_next_run_goes_on(path: Path) -> None:
    with open_store(path) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "PACK_NBYTES", 2 * 40_000)
        limits = Limits(nbytes=3 * 40_000)
        first = optimize_all(store, limits=limits, prices=DEFAULT_PRICES)
        assert 0 < first.rebased.moved_nbytes <= 3 * 40_000
        assert first.left_nbytes > 0
        assert problems(store) == []
        for _ in range(4):
            optimize_all(store, limits=limits, prices=DEFAULT_PRICES)
            assert problems(store) == []
        assert plan_rebases(store, _quietly).plans == ()
    assert contents(path) == FAMILY


def test_it_stops_when_asked_and_leaves_no_pack_behind(path: Path) -> None:
    stop = Stop()

    def report(what: str, done: int, total: int) -> None:
        if what == "rebasing":
            stop.set()

    with open_store(path) as store:
        packs = set(store.packs.names())
        done = optimize(store, report, limits=Limits(), stop=stop)
        assert done.stopped
        assert set(store.packs.names()) == packs
        assert list(store.packs.unfinished()) == []
        assert problems(store) == []
        assert not optimize_all(store).stopped
    assert contents(path) == FAMILY


def test_it_gives_way_to_whoever_writes_packs_if_told_so(path: Path) -> None:
    with open_store(path) as store, store.lock("pack").held("", waiting=None):
        done = optimize(store, _quietly, limits=Limits(), stop=Stop(), wait=False)
        assert done.stopped
        assert done.rebased.tensors == 0


def test_what_turns_out_larger_than_predicted_is_left_as_it_is(path: Path) -> None:
    with open_store(path) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_blob, "encode_frame", lambda raw, dtype, base, seed: encode_frame(raw, "", None, seed))
        packs = store.catalog.packs()
        done = optimize_all(store)
        assert done.rebased.given_up == 1
        assert done.rebased.tensors == 0
        assert store.catalog.packs() == packs
    assert contents(path) == FAMILY


def test_a_damaged_tensor_leaves_its_family_alone(path: Path) -> None:
    with open_store(path) as store:
        blob = store.catalog.blob(store.catalog.extents(served_inode(store, b"run/3"))[-1].blob_id)
        with open(store.packs.where(blob.pack), "r+b") as file:
            file.seek(blob.pack_offset + 40)
            file.write(b"\xff\xff\xff")
        done = optimize_all(store)
        assert done.rebased.given_up == 1
    with Library(path) as library:
        assert library.read("run/0") == FAMILY[b"run/0"]


def test_a_full_disk_ends_the_run_and_leaves_everything(path: Path) -> None:
    with open_store(path) as store, pytest.MonkeyPatch.context() as patch:

        def full(fd: int, data: object, offset: int) -> int:
            raise OSError(28, "No space left on device")

        patch.setattr("zipfs.store.packs.local_file.os.pwrite", full)
        with pytest.raises(NoSpace):
            optimize_all(store)
    assert contents(path) == FAMILY
    assert [problem for problem in all_problems(path) if not problem.harmless] == []


def test_new_members_attach_to_the_new_base(path: Path, tmp_path: Path) -> None:
    with open_store(path) as store:
        optimize_all(store)
        (new_base,) = (blob_ids(store, name)[-1] for name in FAMILY if base_of(store, name)[-1] is None)
        put_file(store, tmp_path, b"late", model(changed(changed(weights(20_000, 77), 4, 1.0, 78), 2, 0.1, 500)))
        assert base_of(store, b"late")[-1] == new_base


def test_where_a_family_has_gathered_around_a_poor_base_a_new_one_is_opened(tmp_path: Path) -> None:
    """The second of them is standalone although the base would save something, and the third hangs on the second."""
    outlier = weights(20_000, 77)
    centre = changed(outlier, 7, 1.0, 78)
    with open_store(tmp_path / "store", create=True) as store:
        put_file(store, tmp_path, b"outlier", model(outlier))
        for n in range(3):
            put_file(store, tmp_path, f"run/{n}".encode(), model(changed(centre, 2, 0.1, n)))
        bases = [base_of(store, f"run/{n}".encode())[-1] for n in range(3)]
        second = blob_ids(store, b"run/1")[-1]
        assert bases == [blob_ids(store, b"outlier")[-1], None, second]
        optimize_all(store, prices=DEFAULT_PRICES)
        assert base_of(store, b"run/0")[-1] == second


def test_tiny_equal_and_constant_tensors_are_no_trouble(tmp_path: Path) -> None:
    files = {
        f"m{n}".encode(): tensor_file(
            {
                "zeros": ("F32", [100, 100], bytes(40_000)),
                "tiny": ("BF16", [3], bytes([n] * 6)),
                "nan": ("F32", [2000], b"\xff\xff\xff\x7f" * 1999 + bytes([n, 0, 0, 0])),
                "empty": ("F32", [0], b""),
            }
        )
        for n in range(12)
    }
    with open_store(tmp_path / "store", create=True) as store:
        for name, content in files.items():
            assert put_file(store, tmp_path, name, content).failures == []
        optimize_all(store)
        assert problems(store) == []
    assert contents(tmp_path / "store") == files


def test_progress_tells_of_a_listener(path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with open_store(path) as store:
        optimize(store, lambda *what: told.append(what), limits=Limits(), stop=Stop())
    assert {"comparing tensors", "rebasing"} <= {what for what, _, _ in told}
    assert all(0 <= done <= total for _, done, total in told)
    assert Listener().failures == []


def _ingest_and_rebase(store: Store, scratch: Path, name: bytes, content: bytes) -> int:
    """As `zipfs ingest` does; returns how many tensors were rebased at the end."""
    path = scratch / "content"
    path.write_bytes(content)
    pipeline = Pipeline(store, Listener())
    try:
        pipeline.run(find(store, path, name).sources)
        return pipeline.rebase().tensors
    finally:
        pipeline.close()


def test_a_small_family_changes_over_to_a_better_base_as_it_grows(tmp_path: Path) -> None:
    family = badly_based_family(60_000)
    with open_store(tmp_path / "store", create=True) as store:
        moved = [_ingest_and_rebase(store, tmp_path, name, content) for name, content in family.items()]
        assert moved[0] == moved[1] == 0
        assert sum(moved) > 0
        assert base_of(store, b"run/0")[-1] is not None
        assert problems(store) == []
        dead = sql(store.catalog, "SELECT sum(nbytes) FROM packs")[0][0]
        dead -= sql(store.catalog, "SELECT sum(stored_nbytes) FROM blobs")[0][0]
        assert dead < 0.1 * sum(map(len, family.values()))
    assert contents(tmp_path / "store") == family


def test_a_full_disk_while_rebasing_is_no_failure_of_the_ingest(path: Path, tmp_path: Path) -> None:
    late = model(changed(changed(weights(20_000, 77), 4, 1.0, 78), 2, 0.1, 500), "kin")
    with open_store(path) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(after_ingest, "_LEAST_NBYTES", 0)

        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(run, "rebase", full)
        assert _ingest_and_rebase(store, tmp_path, b"late", late) == 0
        assert problems(store) == []
    assert contents(path) == {**FAMILY, b"late": late}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sketches SET sketch = hex(sketch)",
        "UPDATE sketches SET sketch = 7",
        "UPDATE signatures SET signature = printf('%032d', blob_id)",
        "UPDATE signatures SET signature = x'00' WHERE blob_id % 2",
        "UPDATE landmarks SET landmarks = hex(landmarks)",
        "UPDATE landmarks SET landmarks = 3",
        "UPDATE blobs SET stored_nbytes = 'x' WHERE dtype <> ''",
    ],
)
def test_columns_of_another_type_are_passed_over(change: str, path: Path, tmp_path: Path) -> None:
    """As a flipped bit leaves them: SQLite keeps the type of a value beside it."""
    with open_store(path) as store:
        sql(store.catalog, "PRAGMA ignore_check_constraints = ON")
        sql(store.catalog, change)
    late = model(changed(changed(weights(20_000, 77), 4, 1.0, 78), 2, 0.1, 500))
    grown = model(changed(weights(20_000, 77), 2, 0.1, 5) + weights(3000, 6))
    with open_store(path) as store:
        assert put_file(store, tmp_path, b"late", late).failures == []
        assert put_file(store, tmp_path, b"grown", grown).failures == []
        try:
            optimize_all(store)
        except CatalogDamaged as error:
            assert "stored_nbytes" in change
            assert "contradicts itself" in str(error)
