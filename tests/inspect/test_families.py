"""Which models are taken for siblings, on whom they hang, and that what they take adds up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hub import Hub, Made
from tests.support.sql import sql
from tests.support.stores import collect_garbage, copy_in, remove, served_inode
from zipfs.ingest.queue import seal_everything
from zipfs.inspect.families import Family, FamilyReport, find_families
from zipfs.inspect.inventory import take_inventory
from zipfs.inspect.storage_method import Share, StorageMethod
from zipfs.store.disk.progress import report_nothing
from zipfs.store.namespace import tree
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.objects.values import ROOT, BlobId
from zipfs.store.store import Store, open_store

SHAPE = (64, 64)
NBYTES = 64 * 64 * 2


def family_report(store: Store) -> FamilyReport:
    return find_families(take_inventory(store, report_nothing))


def tensors(*names: str) -> list[Made]:
    return [Made(name, SHAPE) for name in names]


def against(spec: list[Made], ids: list[BlobId], bits: float = 1.0) -> list[Made]:
    return [replace(one, base=blob_id, bits=bits) for one, blob_id in zip(spec, ids, strict=True)]


def tree_of(family: Family) -> list[tuple[bytes, bytes | None, int]]:
    return [(member.path, member.parent, member.depth) for member in family.members]


def test_fine_tunes_hang_on_their_base_whatever_it_is_called(store: Store) -> None:
    hub = Hub(store)
    spec = tensors("a", "b")
    ids = hub.add_model("z/base", spec, config=b"{}")
    hub.add_model("a/tuned", against(spec, ids))
    hub.add_model("m/frozen", [replace(spec[0], same=ids[0]), *against(spec[1:], ids[1:], 2.0)], config=b"{}")
    hub.finish()
    (family,) = family_report(store).families
    assert tree_of(family) == [(b"z/base", None, 0), (b"a/tuned", b"z/base", 1), (b"m/frozen", b"z/base", 1)]
    base, tuned, frozen = family.members
    assert base.carried_nbytes == 4 * NBYTES
    assert base.rests_on == ()
    assert tuned.shares[StorageMethod.WHOLE_BASE] == Share(2 * NBYTES, 2 * NBYTES // 16)
    assert frozen.rests_on == ((b"z/base", 2 * NBYTES),)
    assert frozen.shares[StorageMethod.WHOLE_BASE] == Share(NBYTES, NBYTES // 8)
    assert frozen.shares[StorageMethod.SHARED].nbytes > NBYTES  # the tensor, its header and config.json
    assert frozen.shares[StorageMethod.SHARED].stored_nbytes == 0
    assert frozen.saved_nbytes == frozen.nbytes - NBYTES // 8
    assert (frozen.files, frozen.tensors) == (2, 2)


def test_a_model_hangs_on_the_one_that_most_of_it_rests_on(store: Store) -> None:
    hub = Hub(store)
    spec = tensors("a", "b", "c", "d")
    base = hub.add_model("base", spec)
    first = hub.add_model("first", [*against(spec[:1], base[:1]), *spec[1:]])
    hub.add_model("second", [*against(spec[:1], base[:1]), *against(spec[1:], first[1:])])
    hub.add_model("third", against(spec, base))
    hub.finish()
    (family,) = family_report(store).families
    assert [member.path for member in family.members] == [b"base", b"third", b"first", b"second"]
    by_path = {member.path: member for member in family.members}
    assert by_path[b"second"].parent == b"first"
    assert by_path[b"second"].rests_on == ((b"first", 3 * NBYTES), (b"base", NBYTES))
    assert by_path[b"first"].depth + 1 == by_path[b"second"].depth == 2


def test_what_all_models_have_in_common_makes_no_family(store: Store) -> None:
    hub = Hub(store)
    mask = Made("mask", (16,))
    (mask_id, *_) = hub.add_model("one", [mask, *tensors("a", "b")], license=b"Apache")
    hub.add_model("other", [replace(mask, same=mask_id), *tensors("a", "b")], license=b"Apache")
    hub.finish()
    found = family_report(store)
    assert [len(family.members) for family in found.families] == [1, 1]
    assert found.families[0].root.path == b"other"  # saved most: its license and its mask
    assert found.families[0].root.rests_on == ((b"one", 32),)


def test_casts_and_ranges_are_methods_of_their_own(store: Store) -> None:
    hub = Hub(store)
    ids = hub.add_model("base", tensors("a"))
    wide = Made("a", SHAPE, dtype="F32", bits=16.0, base=ids[0], cast="BF16>F32")
    half = Made("half", (32, 64), bits=1.0, base=ids[0], base_items=(2048, 4096))
    longer = Made("longer", (65, 64), bits=1.0, base=ids[0])
    hub.add_model("views", [wide, half, longer])
    hub.finish()
    (family,) = family_report(store).families
    shares = family.members[1].shares
    assert shares[StorageMethod.CAST_BASE] == Share(2 * NBYTES, NBYTES)
    assert shares[StorageMethod.BASE_RANGE].nbytes == NBYTES // 2 + 65 * 64 * 2
    assert StorageMethod.WHOLE_BASE not in shares


def test_a_base_whose_files_are_gone_is_told_of(store: Store) -> None:
    hub = Hub(store)
    spec = tensors("a", "b")
    ids = hub.add_model("base", spec)
    for name in ("one", "other"):
        hub.add_model(name, against(spec, ids))
    hub.add_model("lone", spec)
    hub.finish()
    before = family_report(store)
    remove(store, b"base")
    remove(store, b"lone")
    after = family_report(store)
    (family,) = after.families
    assert [member.path for member in family.members] == [b"one", b"other"]
    assert family.kept_nbytes == round(2 * 64 * 64 * 10.6 / 8)
    assert family.stored_nbytes == family.kept_nbytes + sum(member.stored_nbytes for member in family.members)
    assert after.unused_nbytes == family.kept_nbytes  # what the lone one took
    assert after.stored_nbytes == before.stored_nbytes


def test_what_waits_in_the_spool_counts_as_it_is(store: Store) -> None:
    hub = Hub(store)
    hub.add_model("m", tensors("a"))
    hub.finish()
    copy_in(store, b"m/late.bin", b"x" * 1000)
    copy_in(store, b"n/late.bin", b"y" * 500)
    seal_everything(store)
    found = family_report(store)
    (family,) = found.families
    assert family.root.shares[StorageMethod.SPOOL] == Share(1000, 1000)
    assert (found.other_files, found.others) == (1, Share(500, 500))
    assert (found.spool_files, found.spool) == (2, Share(1500, 1500))


def test_two_names_of_one_file_count_once(store: Store) -> None:
    hub = Hub(store)
    hub.add_model("m", tensors("a"))
    hub.finish()
    before = family_report(store)
    with store.transaction() as txn:
        tree.link(txn, ROOT, b"again", served_inode(store, b"m/model.safetensors"), Event.SERVE)
    after = family_report(store)
    assert after.nbytes == before.nbytes
    assert [family.root.path for family in after.families] == [b""]  # the first of its names lies at the top


def test_an_empty_store_has_no_families(store: Store) -> None:
    found = family_report(store)
    assert found == FamilyReport((), Share(0, 0), 0, Share(0, 0), 0, Share(0, 0), 0, 0, {})


Plan = list[list[tuple[str, int, int]]]
"""For each model its tensors: stored how, and against or as which tensor of which earlier model."""

PLANS: st.SearchStrategy[Plan] = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["alone", "same", "base"]), st.integers(0, 5), st.integers(0, 3)),
        min_size=1,
        max_size=4,
    ),
    max_size=6,
)


@pytest.mark.slow
@given(plan=PLANS, gone=st.sets(st.integers(0, 5)))
def test_families_are_trees_and_sizes_add_up(
    plan: Plan, gone: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with open_store(tmp_path_factory.mktemp("families") / "store", create=True) as store:
        hub = Hub(store)
        made: list[list[BlobId]] = []
        alone: set[BlobId] = set()
        for number, spec in enumerate(plan):
            chosen = []
            for at, (method, model, tensor) in enumerate(spec):
                one = Made(f"layers.{at}.w", SHAPE)
                ids = made[model % len(made)] if made else []
                other = ids[tensor % len(ids)] if ids else None
                if method == "same":
                    one = replace(one, same=other)
                elif method == "base" and other in alone:
                    one = replace(one, base=other, bits=2.0)
                chosen.append(one)
            made.append(hub.add_model(f"model-{number}", chosen))
            alone |= {
                blob_id for one, blob_id in zip(chosen, made[-1], strict=True) if one.base is None and one.same is None
            }
        hub.finish()
        for number in gone & set(range(len(plan))):
            remove(store, b"model-%d" % number)
        found = family_report(store)
        members = list(itertools.chain.from_iterable(family.members for family in found.families))
        left = {b"model-%d" % number for number in range(len(plan)) if number not in gone}
        assert {member.path for member in members} == left
        assert len(members) == len(left)
        for family in found.families:
            seen: dict[bytes | None, int] = {None: -1}
            for member in family.members:
                assert member.depth == seen[member.parent] + 1
                seen[member.path] = member.depth
            assert [member.parent for member in family.members].count(None) == 1
            assert max(member.carried_nbytes for member in family.members) == family.root.carried_nbytes
        ((stored,),) = sql(store.catalog, "SELECT coalesce(sum(stored_nbytes), 0) FROM blobs")
        assert found.stored_nbytes == stored
        assert found == family_report(store)
        if left:
            collect_garbage(store)
            by_path = {member.path: member.stored_nbytes for member in members}
            for path, nbytes in by_path.items():
                assert served_inode(store, path + b"/model.safetensors").stored_nbytes == nbytes
