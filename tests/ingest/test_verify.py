"""What is stored is read back, decoded and compared as soon as it is on the disk, and tells which file is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.stores import noise, weights
from zipfs.codec import FRAME_NBYTES, encode_frame
from zipfs.errors import Damaged
from zipfs.ingest.source import NotWanted, Source, SourceError
from zipfs.ingest.verify import SourcesChanged, StoredBlob, Verifier
from zipfs.store.disk.stopping import Stop
from zipfs.store.frames.cache import FrameCache
from zipfs.store.frames.open_blob import opened
from zipfs.store.objects.values import BlobId, frame_seed
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.writer import PackWriter

CONTENTS = {"a": weights(3 * FRAME_NBYTES), "b": noise(100_000, 1), "c": noise(2 * FRAME_NBYTES + 5, 2)}


class ReadSource(Source):
    """A source that knows which of its bytes were read, and that can be told to have gone or to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, path.name, path.name.encode(), 0, lambda txn, stored: None)
        self.read_at: list[int] = []
        self.is_wanted = True
        self.is_readable = True
        self.wanted = lambda: self.is_wanted
        self.open()

    def read(self, offset: int, nbytes: int) -> bytes:
        if not self.is_readable:
            raise SourceError(self.shown, "cannot be read")
        self.read_at.append(offset)
        return Source.read(self, offset, nbytes)


class Stored:
    """A pack that holds one blob of each source, and a verifier of it."""

    def __init__(self, path: Path, executor: ThreadPoolExecutor) -> None:
        self.writer = PackWriter(LocalPacks(path))
        self.verifier = Verifier(FrameCache(1 << 24), executor, Stop())
        self.sources: dict[str, ReadSource] = {}
        for number, (name, raw) in enumerate(CONTENTS.items()):
            (path / name).write_bytes(raw)
            self.sources[name] = ReadSource(path / name)
            self.writer.begin_blob()
            for index, at in enumerate(range(0, len(raw), FRAME_NBYTES)):
                seed = frame_seed(BlobId(number), index)
                self.writer.append_frame(encode_frame(raw[at : at + FRAME_NBYTES], "", None, seed))
            blob = self.writer.end_blob(BlobId(number), len(raw), bytes(16), "", (), None)
            self.verifier.add(StoredBlob(opened(blob, self.writer.file, None), self.sources[name], 0))


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    with ThreadPoolExecutor(2) as executor:
        made = Stored(tmp_path, executor)
        yield made
        made.verifier.drop_all()
        made.writer.abandon()
        for source in made.sources.values():
            source.close()


def test_every_byte_is_compared_once_however_early(stored: Stored) -> None:
    for nbytes in range(0, stored.writer.nbytes + 1, 100_000):
        stored.verifier.advance(nbytes)
    stored.verifier.finish()
    for name, source in stored.sources.items():
        assert sorted(source.read_at) == list(range(0, len(CONTENTS[name]), FRAME_NBYTES))


def test_nothing_is_compared_before_it_is_on_the_disk(stored: Stored) -> None:
    stored.verifier.advance(stored.writer.blobs[0].blob.stored_nbytes)  # the header of the pack comes before it
    assert not any(source.read_at for source in stored.sources.values())


def change(source: ReadSource) -> None:
    content = source.path.read_bytes()
    with source.path.open("r+b") as file:
        file.seek(len(content) - 1)
        file.write(bytes([content[-1] ^ 1]))


def go(source: ReadSource) -> None:
    source.is_wanted = False


def fail(source: ReadSource) -> None:
    source.is_readable = False


def grow(source: ReadSource) -> None:
    change(source)
    with source.path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(("spoil", "error"), [(grow, SourceError), (go, NotWanted), (fail, SourceError)])
@pytest.mark.parametrize("name", CONTENTS)
def test_the_source_that_is_wrong_is_named_and_no_other(
    name: str, spoil: Callable[[ReadSource], None], error: type[SourceError], stored: Stored
) -> None:
    spoil(stored.sources[name])
    stored.verifier.advance(stored.writer.nbytes)
    with pytest.raises(SourcesChanged) as caught:
        stored.verifier.finish()
    assert [source.shown for source, _ in caught.value.changed] == [name]
    assert [type(of_source) for _, of_source in caught.value.changed] == [error]


def test_other_bytes_in_a_source_that_has_not_changed_are_damage(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "check_unchanged", lambda self: None)
    change(stored.sources["c"])
    with pytest.raises(Damaged, match=f"decodes to other bytes, at offset {2 * FRAME_NBYTES}"):
        stored.verifier.finish()


def test_what_is_taken_back_is_not_told_of(stored: Stored) -> None:
    grow(stored.sources["c"])
    stored.verifier.advance(stored.writer.nbytes)
    stored.verifier.forget({BlobId(2)})
    stored.writer.rewind(2)
    stored.verifier.finish()
    assert stored.sources["a"].read_at
