"""What the catalog does not keep of a tensor is read from its bytes; what cannot be read is in the way of nothing."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sql import sql
from tests.support.stores import blob_ids, changed, make_store, model, weights
from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.feature_reader import READ_ANEW_NBYTES, FeatureReader
from zipfs.bases.similarity.minhash import MinhashSample, SampleScan
from zipfs.bases.similarity.sketch import sketch, sketch_whole
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store, open_store

SMALL, LARGE = 60_000, 600_000
BASE, LARGE_BASE = weights(SMALL, 1), weights(LARGE, 2)
RAW = {
    b"base": BASE,
    b"member": changed(BASE, 2, 0.3, 3),
    b"other-member": changed(BASE, 2, 0.3, 4),
    b"large": LARGE_BASE,
    b"large-member": changed(LARGE_BASE, 2, 0.3, 5),
    b"tiny": weights(500, 6),
}
MEMBERS = (b"member", b"other-member", b"large-member")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("features"), {name: model(raw) for name, raw in RAW.items()})


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path) as opened:
        yield opened


def ids_of(store: Store) -> dict[bytes, BlobId]:
    return {name: BlobId(blob_ids(store, name)[-1]) for name in RAW}


def sketch_of(raw: bytes) -> bytes:
    return sketch(lambda offset, nbytes: raw[offset : offset + nbytes], len(raw), "BF16")


def unlink_pack(store: Store, blob_id: BlobId) -> None:
    (store.path / "packs" / f"{store.catalog.blob(blob_id).pack.hex()}.pack").unlink()


def test_members_are_members(store: Store) -> None:
    assert {name for name, blob_id in ids_of(store).items() if store.catalog.is_member(blob_id)} == set(MEMBERS)


def test_sketches_are_those_of_the_bytes_whether_they_are_kept_or_read(store: Store) -> None:
    ids = ids_of(store)
    reader = FeatureReader(store)
    for nbytes in {len(raw) for raw in RAW.values()}:
        names = [name for name in reversed(RAW) if len(RAW[name]) == nbytes]
        found = reader.sketches([ids[name] for name in names], nbytes)
        assert list(found.items()) == [(ids[name], sketch_of(RAW[name])) for name in names]
    kept = {blob_id for (blob_id,) in sql(store.catalog, "SELECT blob_id FROM sketches")}
    assert kept == {ids[name] for name, raw in RAW.items() if len(raw) > READ_ANEW_NBYTES}


def test_what_is_no_tensor_or_gone_has_no_sketch(store: Store) -> None:
    header = BlobId(blob_ids(store, b"base")[0])
    assert FeatureReader(store).sketches([header, BlobId(999)], 2 * SMALL) == {}


def test_a_large_tensor_is_not_read(store: Store) -> None:
    sql(store.catalog, "DELETE FROM sketches")
    assert FeatureReader(store).sketches([ids_of(store)[b"large"]], 2 * LARGE) == {}


def test_what_was_read_or_is_being_registered_stays_in_memory(path: Path) -> None:
    with open_store(path) as store:
        ids = ids_of(store)
        unlink_pack(store, ids[b"base"])
    with open_store(path) as store:
        search = CandidateSearch(store)
        search.reader.remember(ids[b"base"], sketch_of(BASE))
        (signature,) = store.catalog.signatures([ids[b"base"]]).values()
        assert search.of_same_length("BF16", len(BASE), signature) == [(ids[b"base"], sketch_of(BASE))]


@pytest.mark.parametrize("gone", [b"base", b"member"])
def test_a_tensor_that_cannot_be_read_is_passed_over(gone: bytes, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_store(path) as store:
        ids = ids_of(store)
        unlink_pack(store, ids[gone])
    lost = {b"base", b"member", b"other-member"} if gone == b"base" else {gone}
    with open_store(path) as store, caplog.at_level(logging.ERROR):
        reader = FeatureReader(store)
        small = [ids[name] for name, raw in RAW.items() if len(raw) == len(BASE)]
        assert set(reader.sketches(small, len(BASE))) == set(small) - {ids[name] for name in lost}
        standalone = [ids[b"base"], ids[b"large"]]
        found = {one.blob_id for one in reader.samples_of_standalone(standalone, None)}
        assert found == {ids[name] for name in (b"base", b"large") if name not in lost}
    assert "nothing is compared with it" in caplog.text


def test_one_damaged_member_spoils_no_other(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_store(path) as store:
        ids = ids_of(store)
        blob = store.catalog.blob(ids[b"member"])
    with open(path / "packs" / f"{blob.pack.hex()}.pack", "r+b") as pack:
        pack.seek(blob.pack_offset + blob.stored_nbytes // 2)
        byte = pack.read(1)
        pack.seek(-1, 1)
        pack.write(bytes([byte[0] ^ 0xFF]))
    with open_store(path) as store, caplog.at_level(logging.ERROR):
        found = FeatureReader(store).sketches([ids[b"member"], ids[b"other-member"]], len(BASE))
        assert found == {ids[b"other-member"]: sketch_of(RAW[b"other-member"])}
    assert "nothing is compared with it" in caplog.text


def test_samples_of_bases_are_those_of_the_bytes(store: Store) -> None:
    ids = ids_of(store)
    found = FeatureReader(store).samples_of_standalone([ids[b"large"], ids[b"base"], ids[b"member"]], None)
    assert [one.blob_id for one in found] == [ids[b"large"], ids[b"base"]]
    for candidate, name in zip(found, (b"large", b"base"), strict=True):
        scan = SampleScan(len(RAW[name]), "BF16", (len(RAW[name]) // 2,))
        for at in range(0, len(RAW[name]), 1 << 20):
            scan.feed(at, RAW[name][at : at + (1 << 20)])
        sample = scan.sample()
        assert sample is not None
        assert isinstance(candidate.sample, MinhashSample)
        assert candidate.sample.encode() == sample.kept(is_member=False).encode()


def test_nothing_is_read_for_the_one_that_is_chosen_already(path: Path) -> None:
    with open_store(path) as store:
        ids = ids_of(store)
        unlink_pack(store, ids[b"base"])
    with open_store(path) as store:
        reader = FeatureReader(store)
        assert reader.samples_of_standalone([ids[b"base"]], ids[b"base"]) == []
        assert [one.blob_id for one in reader.samples_of_standalone([ids[b"large"]], ids[b"base"])] == [ids[b"large"]]


def test_members_of_a_base_have_samples(store: Store) -> None:
    ids = ids_of(store)
    found = list(FeatureReader(store).samples_of_members({ids[b"base"], ids[b"large"]}, 9))
    assert {one.blob_id for one in found} == {ids[name] for name in MEMBERS}
    items = {ids[name]: len(RAW[name]) // 2 for name in MEMBERS}
    assert all(one.is_member and one.sample.items == items[BlobId(one.blob_id)] for one in found)


@pytest.mark.parametrize("items", [0, 1, 1000, 1008, 1009, 5000, 70_001])
def test_a_tensor_in_memory_is_sketched_like_one_that_is_read(items: int) -> None:
    raw = weights(items, items)
    assert sketch_whole(raw, "BF16") == sketch_of(raw)
    assert sketch_whole(raw + b"x", "BF16") == sketch(lambda at, n: (raw + b"x")[at : at + n], len(raw) + 1, "BF16")
