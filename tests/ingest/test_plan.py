"""What is chosen for a span, as text, from fakes of what is stored and of the bytes that are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.support.stores import changed, put_file, served_inode, tensor_file, weights
from zipfs.bases.similarity.alignment import PartialMatch
from zipfs.bases.similarity.candidates import CandidateSearch
from zipfs.bases.similarity.features import TensorFeatures, read_features
from zipfs.bases.similarity.minhash import SampleScan
from zipfs.errors import Damaged
from zipfs.formats import Span
from zipfs.ingest.inspect import SpanInspection
from zipfs.ingest.plan import EncodingPlan, Planner, Share, Step, share_zeros
from zipfs.store.objects.values import Blob, BlobId, Extent
from zipfs.store.store import Store, open_store

ITEMS = 40_000
BASE = weights(ITEMS, 1)


@dataclass(slots=True)
class FakeContent:
    """Bytes in memory instead of a file, and those of blobs; `damaged` ones cannot be read."""

    raw: bytes
    blobs: dict[BlobId, tuple[Blob, bytes]] = field(default_factory=dict)
    damaged: set[BlobId] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def cut(self, span: Span) -> bytes:
        return self.raw[span.offset : span.offset + span.nbytes]

    def inspect(self, span: Span) -> SpanInspection:
        scan = SampleScan(span.nbytes, span.dtype, span.shape)
        scan.feed(0, self.cut(span))
        return SpanInspection(span, b"%16d" % span.offset, scan.sample())

    def features(self, found: SpanInspection) -> TensorFeatures | None:
        span, raw = found.span, self.cut(found.span)
        return read_features(lambda offset, nbytes: raw[offset : offset + nbytes], span.nbytes, span.dtype)

    def tensor(self, span: Span) -> FakeTensor:
        return FakeTensor(self, span)

    def bytes_of(self, blob_id: BlobId) -> bytes:
        if blob_id in self.damaged:
            raise Damaged(f"blob {blob_id}", "cannot be read")
        return self.blobs[blob_id][1]

    def has_bytes_of(self, span: Span, blob_id: BlobId, offset: int) -> bool:
        self.asked.append(f"equal {blob_id} {offset}")
        return self.bytes_of(blob_id)[offset : offset + span.nbytes] == self.cut(span)


@dataclass(slots=True)
class FakeTensor:
    content: FakeContent
    span: Span

    def blob(self, blob_id: BlobId) -> Blob:
        self.content.bytes_of(blob_id)
        return self.content.blobs[blob_id][0]

    def coded_nbytes(self, blob_id: BlobId) -> float:
        self.content.asked.append(f"sample against {blob_id}")
        return float(blob_id)

    def agrees(self, match: PartialMatch, start: int, stop: int) -> bool:
        theirs = self.content.bytes_of(BlobId(match.blob_id))
        at = 2 * match.distance
        return theirs[2 * start + at : 2 * stop + at] == self.content.cut(self.span)[2 * start : 2 * stop]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", create=True) as opened:
        yield opened


def stored(store: Store, scratch: Path, *raws: bytes) -> dict[BlobId, tuple[Blob, bytes]]:
    """Blobs of one BF16 tensor each."""
    found = {}
    for number, raw in enumerate(raws):
        name = b"f%d" % number
        put_file(store, scratch, name, tensor_file({"w": ("BF16", [len(raw) // 2], raw)}))
        blob = store.catalog.blob(store.catalog.extents(served_inode(store, name))[-1].blob_id)
        found[blob.id] = blob, raw
    return found


def planner(store: Store, content: FakeContent) -> Planner:
    search = CandidateSearch(store)
    search.begin()
    return Planner(search, content)


def plan(store: Store, content: FakeContent, fingerprint: bytes = b"", dtype: str = "BF16") -> str:
    span = Span(0, len(content.raw), dtype, (len(content.raw) // 2,) if dtype else (), "w")
    found = content.inspect(span)
    found = SpanInspection(span, fingerprint or found.fingerprint, found.sample)
    text = EncodingPlan(tuple(planner(store, content).steps(found))).as_text()
    for number, blob_id in enumerate(content.blobs):
        text = text.replace(f"blob {blob_id} ", f"blob {'ABC'[number]} ")
    return text


def test_equal_bytes_are_shared_after_a_comparison(store: Store, tmp_path: Path) -> None:
    blobs = stored(store, tmp_path, BASE)
    ((blob_id, (blob, _)),) = blobs.items()
    content = FakeContent(BASE, blobs)
    assert plan(store, content, blob.fingerprint) == "0+80000 share blob A 0+80000: equal bytes\n"
    assert content.asked == [f"equal {blob_id} 0"]


def test_a_fingerprint_alone_shares_nothing(store: Store, tmp_path: Path) -> None:
    blobs = stored(store, tmp_path, BASE)
    ((_, (blob, _)),) = blobs.items()
    assert "encode standalone" in plan(store, FakeContent(weights(ITEMS, 2), blobs), blob.fingerprint)


def test_a_tensor_is_coded_against_what_it_resembles(store: Store, tmp_path: Path) -> None:
    blobs = stored(store, tmp_path, BASE, weights(ITEMS, 7))
    text = plan(store, FakeContent(changed(BASE, 2, 0.3, 3), blobs))
    assert text.startswith("0+80000 encode against blob A 0+80000: predicted to be smallest of 1, ")


def test_the_sample_decides_between_bases_that_are_about_as_good(store: Store, tmp_path: Path) -> None:
    near = [changed(BASE, 3, 1.0, seed) for seed in (5, 6)]
    content = FakeContent(changed(BASE, 3, 1.0, 7), stored(store, tmp_path, weights(ITEMS, 9)))
    search = CandidateSearch(store)
    search.begin()
    ((blob, _),) = content.blobs.values()
    for number, raw in enumerate(near):
        made = FakeContent(raw).features(SpanInspection(Span(0, len(raw), "BF16", (ITEMS,), "w"), b"", None))
        new = Blob(BlobId(100 + number), len(raw), b"%16d" % number, "BF16", (ITEMS,), None, blob.pack, 0, blob.frames)
        content.blobs[new.id] = new, raw
        search.add(new, made, None)
    span = Span(0, len(content.raw), "BF16", (ITEMS,), "w")
    (step,) = Planner(search, content).steps(content.inspect(span))
    assert "against blob 100 0+80000: predicted to be smallest of 2" in step.as_text()
    assert {one for one in content.asked if "sample" in one} == {"sample against 100", "sample against 101"}


def test_nothing_is_coded_against_a_base_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    blobs = stored(store, tmp_path, BASE)
    text = plan(store, FakeContent(changed(BASE, 2, 0.3, 3), blobs, damaged=set(blobs)))
    assert text.startswith("0+80000 encode standalone: its base cannot be read")


def test_a_range_is_shared_and_what_is_new_beside_it_is_coded(store: Store, tmp_path: Path) -> None:
    blobs = stored(store, tmp_path, BASE)
    new = weights(8000, 11)
    lines = plan(store, FakeContent(BASE[20_000:] + new, blobs)).splitlines()
    assert lines[0] == "0+60000 share blob A 20000+60000: equal bytes of a range"
    assert lines[1].startswith("60000+16000 encode standalone: nothing that came before resembles it")


def test_what_comes_again_is_planned_after_what_it_repeats(store: Store) -> None:
    content = FakeContent(BASE * 3)
    span = Span(0, len(content.raw), "BF16", (3 * ITEMS,), "w")
    steps: list[Step] = []
    for step in planner(store, content).steps(content.inspect(span)):
        steps.append(step)
        assert len(steps) < 10
    assert [(step.span.offset, step.span.nbytes) for step in steps] == [(0, 80_000), (80_000, 160_000)]


@pytest.mark.parametrize("raw", [b"text", np.zeros(50, "<u2").tobytes()])
def test_plain_bytes_and_tiny_tensors_have_no_base(store: Store, raw: bytes) -> None:
    why = "no tensor, or too small to gain by a base"
    assert plan(store, FakeContent(raw), dtype="") == f"0+{len(raw)} encode standalone: {why}\n"
    assert plan(store, FakeContent(raw)) == f"0+{len(raw)} encode standalone: {why}\n"


def test_a_hole_is_ranges_of_a_blob_of_zeros() -> None:
    steps = list(share_zeros(Span(10, 250, "", (), None), Extent(0, 100, BlobId(7), 0)))
    assert [(step.span.offset, step.span.nbytes) for step in steps] == [(10, 100), (110, 100), (210, 50)]
    assert all(isinstance(step, Share) and step.blob_id == 7 for step in steps)
