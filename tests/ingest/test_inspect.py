"""One pass over a file tells its layout, its SHA-256, and the fingerprint and sample of every span."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xxhash

from tests.support.stores import Listener, noise, tensor_file, weights
from zipfs.bases.similarity.features import read_features
from zipfs.ingest.inspect import Inspector
from zipfs.ingest.progress import FileProgress
from zipfs.ingest.source import Source
from zipfs.store.disk.stopping import Stop

LARGE = weights(1_300_000)
CONTENT = tensor_file({"large": ("BF16", [1_300_000], LARGE), "small": ("U8", [300], noise(300))})


class CountingSource(Source):
    """A source that knows how many bytes were read from it."""

    read_nbytes = 0

    def read(self, offset: int, nbytes: int) -> bytes:
        data = Source.read(self, offset, nbytes)
        self.read_nbytes += len(data)
        return data


@pytest.fixture
def source(tmp_path: Path) -> Iterator[CountingSource]:
    path = tmp_path / "m.safetensors"
    path.write_bytes(CONTENT)
    source = CountingSource(path, "m", b"m.safetensors", 0, lambda txn, stored: None)
    source.open()
    yield source
    source.close()


def inspector_of(source: Source) -> Inspector:
    return Inspector(source, FileProgress(source, Listener(), Stop()))


def test_a_file_is_read_once(source: CountingSource) -> None:
    inspector = inspector_of(source)
    file = inspector.file()
    header_nbytes = source.read_nbytes
    found = [inspector.piece(piece.span) for piece in file.pieces]
    assert source.read_nbytes - header_nbytes == len(CONTENT)
    assert inspector.sha256() == hashlib.sha256(CONTENT).digest()
    for one in found:
        raw = CONTENT[one.span.offset : one.span.offset + one.span.nbytes]
        assert one.fingerprint == xxhash.xxh3_128_digest(raw)
    assert [one.sample is not None for one in found] == [False, True, False]


def test_a_part_that_is_inspected_again_changes_no_digest(source: CountingSource) -> None:
    inspector = inspector_of(source)
    spans = [piece.span for piece in inspector.file().pieces]
    for span in spans:
        inspector.piece(span)
        inspector.again(span)
    assert inspector.sha256() == hashlib.sha256(CONTENT).digest()


def test_features_are_those_of_the_bytes(source: CountingSource) -> None:
    inspector = inspector_of(source)
    header, large, small = (inspector.piece(piece.span) for piece in inspector.file().pieces)
    assert inspector.features(header) is None
    assert [one.raw is None for one in (header, large, small)] == [False, True, False]
    for found in (large, small):
        span = found.span
        raw = CONTENT[span.offset : span.offset + span.nbytes]
        assert inspector.features(found) == read_features(reader(raw), len(raw), span.dtype)


def reader(raw: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, nbytes: raw[offset : offset + nbytes]
