"""What every pack backend must do, be it a directory, memory, or whatever comes next: add it to `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.memory_packs import MemoryPacks
from tests.support.stores import (
    badly_based_family,
    collect_garbage,
    import_path,
    noise,
    optimize_all,
    problems,
    put_file,
    remove,
    write_tree,
)
from zipfs.errors import PackDamaged
from zipfs.reading import Reader, open_content
from zipfs.store.disk.stopping import Stop
from zipfs.store.maintenance.check import check
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.namespace import tree
from zipfs.store.objects.values import ROOT, BlobId, Kind, PackName
from zipfs.store.packs.backend import PackBackend, PackPart
from zipfs.store.packs.file import ReadRange, verify_stored
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.writer import PackWriter
from zipfs.store.store import Store, open_store

NAME, OTHER = PackName(b"\x01" * 16), PackName(b"\xff" * 16)
CONTENT = noise(300_000, 1)


def _local(tmp_path: Path) -> PackBackend:
    path = tmp_path / "packs"
    path.mkdir()
    return LocalPacks(path)


BACKENDS: dict[str, Callable[[Path], PackBackend]] = {"local": _local, "memory": lambda tmp_path: MemoryPacks()}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> PackBackend:
    return BACKENDS[request.param](tmp_path)


def _nothing() -> None:
    return


def create(backend: PackBackend, name: PackName, content: bytes = CONTENT) -> None:
    part = backend.begin(name)
    part.append(content)
    part.sync()
    part.finish(_nothing)


def read_all(backend: PackBackend, name: PackName) -> bytes:
    file = backend.open(name)
    return file.read(0, file.nbytes)


# Packs that are there


def test_a_pack_that_was_created_is_there_as_it_was_written(backend: PackBackend) -> None:
    create(backend, NAME)
    assert list(backend.names()) == [NAME]
    assert backend.exists(NAME)
    assert backend.nbytes(NAME) == backend.open(NAME).nbytes == len(CONTENT)
    assert backend.open(NAME).name == NAME
    assert read_all(backend, NAME) == CONTENT
    assert list(backend.unfinished()) == []


def test_messages_tell_packs_apart(backend: PackBackend) -> None:
    create(backend, NAME)
    assert backend.where(NAME) != backend.where(OTHER)
    assert NAME.hex() in backend.where(NAME)
    assert backend.open(NAME).where == backend.where(NAME)


def test_a_pack_that_is_not_there_is_not_found(backend: PackBackend) -> None:
    create(backend, NAME)
    assert not backend.exists(OTHER)
    with pytest.raises(FileNotFoundError):
        backend.open(OTHER)
    with pytest.raises(FileNotFoundError):
        backend.nbytes(OTHER)


def test_any_number_of_packs(backend: PackBackend) -> None:
    names = [PackName(number.to_bytes(16, "big")) for number in range(200)]
    for number, name in enumerate(names):
        create(backend, name, str(number).encode())
    assert sorted(backend.names()) == names
    for number, name in enumerate(names):
        assert read_all(backend, name) == str(number).encode()


# Byte ranges


def test_exactly_what_was_asked_for_is_read(backend: PackBackend) -> None:
    create(backend, NAME)
    file = backend.open(NAME)
    for offset, nbytes in ((0, 0), (0, 1), (7, 100_000), (len(CONTENT) - 1, 1), (len(CONTENT), 0)):
        assert file.read(offset, nbytes) == CONTENT[offset : offset + nbytes]


@pytest.mark.parametrize(("offset", "nbytes"), [(0, len(CONTENT) + 1), (len(CONTENT), 1), (1 << 40, 5)])
def test_what_lies_beyond_the_end_is_damage(offset: int, nbytes: int, backend: PackBackend) -> None:
    create(backend, NAME)
    file = backend.open(NAME)
    with pytest.raises(PackDamaged, match="too early") as caught:
        file.read(offset, nbytes)
    assert file.where in str(caught.value)
    with pytest.raises(PackDamaged, match="too early"):
        file.read_ranges([ReadRange(file, offset, memoryview(bytearray(min(nbytes, 400_000))))])


def test_many_ranges_of_several_packs_are_read_into_buffers(backend: PackBackend) -> None:
    contents = {NAME: CONTENT, OTHER: CONTENT[::-1]}
    for name, content in contents.items():
        create(backend, name, content)
    files = {name: backend.open(name) for name in contents}
    asked = [(NAME, 0, 10), (OTHER, 5, 100_000), (NAME, 200_000, 100_000), (OTHER, 0, 0), (NAME, 3, 7)]
    buffers = [bytearray(nbytes) for _, _, nbytes in asked]
    resident = memoryview(bytearray(1 << 16))
    ranges = [ReadRange(files[name], at, memoryview(into)) for (name, at, _), into in zip(asked, buffers, strict=True)]
    files[NAME].read_ranges(ranges, [resident])
    for (name, offset, nbytes), buffer in zip(asked, buffers, strict=True):
        assert bytes(buffer) == contents[name][offset : offset + nbytes]
    assert bytes(resident) == bytes(1 << 16)


def test_the_first_bad_range_is_named(backend: PackBackend) -> None:
    create(backend, NAME, b"short")
    create(backend, OTHER)
    bad, good = backend.open(NAME), backend.open(OTHER)
    ranges = [ReadRange(file, 3, memoryview(bytearray(100))) for file in (good, bad, good)]
    with pytest.raises(PackDamaged, match="98 bytes too early") as caught:
        good.read_ranges(ranges)
    assert bad.where in str(caught.value)


def test_reading_anew_gives_the_same_bytes(backend: PackBackend) -> None:
    create(backend, NAME)
    file = backend.open(NAME)
    file.forget_cached()
    assert file.read(0, len(CONTENT)) == CONTENT


# Deleting


def test_an_open_pack_stays_readable_when_it_is_deleted(backend: PackBackend) -> None:
    create(backend, NAME)
    file = backend.open(NAME)
    backend.delete(NAME)
    assert list(backend.names()) == []
    assert not backend.exists(NAME)
    with pytest.raises(FileNotFoundError):
        backend.open(NAME)
    backend.release_deleted()
    assert file.nbytes == len(CONTENT)
    assert file.read(0, len(CONTENT)) == CONTENT


def test_deleting_twice_is_as_good_as_once(backend: PackBackend) -> None:
    create(backend, NAME)
    backend.delete(OTHER)
    backend.delete(NAME)
    backend.delete(NAME)
    assert list(backend.names()) == []


# Creating


def test_no_reader_finds_a_part(backend: PackBackend) -> None:
    part = backend.begin(NAME)
    part.append(CONTENT)
    part.sync()
    assert list(backend.names()) == []
    assert not backend.exists(NAME)
    with pytest.raises(FileNotFoundError):
        backend.open(NAME)
    assert len(list(backend.unfinished())) == 1


def test_a_part_can_be_read_while_it_is_written(backend: PackBackend) -> None:
    part = backend.begin(NAME)
    part.append(b"first")
    file = part.file
    assert file.read(0, 5) == b"first"
    part.append(memoryview(b"second"))
    assert part.nbytes == 11
    assert file.read(3, 8) == b"stsecond"
    assert file.name == NAME


def test_what_is_taken_back_is_not_in_the_pack(backend: PackBackend) -> None:
    part = backend.begin(NAME)
    part.append(b"kept")
    part.append(CONTENT)
    part.truncate(4)
    part.append(b" and more")
    part.sync()
    part.finish(_nothing)
    assert read_all(backend, NAME) == b"kept and more"
    assert backend.nbytes(NAME) == 13


def test_a_pack_can_be_found_when_it_is_said_to_have_its_name(backend: PackBackend) -> None:
    found: list[bool] = []
    part = backend.begin(NAME)
    part.append(CONTENT)
    part.sync()
    part.finish(lambda: found.append(backend.exists(NAME) and read_all(backend, NAME) == CONTENT))
    assert found == [True]


def test_a_pack_is_created_once(backend: PackBackend) -> None:
    create(backend, NAME)
    part = backend.begin(NAME)
    part.append(b"another one")
    part.sync()
    with pytest.raises(FileExistsError):
        part.finish(lambda: pytest.fail("nothing was created"))
    assert read_all(backend, NAME) == CONTENT
    part.discard()
    assert read_all(backend, NAME) == CONTENT
    assert list(backend.unfinished()) == []


def test_one_part_of_a_name_at_a_time(backend: PackBackend) -> None:
    part = backend.begin(NAME)
    with pytest.raises(FileExistsError):
        backend.begin(NAME)
    part.discard()
    create(backend, NAME)
    assert read_all(backend, NAME) == CONTENT


def _discard(backend: PackBackend, part: PackPart) -> None:
    part.discard()
    part.discard()


@pytest.mark.parametrize("clear", [_discard, lambda backend, part: backend.clear_unfinished()], ids=["own", "all"])
def test_a_part_that_is_discarded_leaves_no_trace(
    clear: Callable[[PackBackend, PackPart], None], backend: PackBackend
) -> None:
    create(backend, OTHER)
    part = backend.begin(NAME)
    part.append(CONTENT)
    clear(backend, part)
    assert list(backend.unfinished()) == []
    assert list(backend.names()) == [OTHER]
    backend.begin(NAME).discard()


def test_discarding_leaves_what_was_finished(backend: PackBackend) -> None:
    part = backend.begin(NAME)
    part.append(CONTENT)
    part.sync()
    part.finish(_nothing)
    part.discard()
    assert read_all(backend, NAME) == CONTENT


# What stands on it


def _write_blobs(writer: PackWriter, count: int) -> None:
    for number in range(count):
        writer.begin_blob()
        writer.append_frame(noise(1000, number))
        writer.end_blob(BlobId(number + 1), 1000, bytes(16), "", (), None)


def test_a_writer_makes_a_pack_that_describes_itself(backend: PackBackend) -> None:
    writer = PackWriter(backend)
    _write_blobs(writer, 5)
    writer.rewind(3)
    writer.sync()
    verify_stored(writer.file, writer.blobs, Stop())
    writer.finish(_nothing)
    file = backend.open(writer.name)
    assert [packed.blob.id for packed in file.index()] == [1, 2, 3]
    assert file.nbytes == writer.nbytes
    writer.abandon()
    assert list(backend.names()) == []


def test_a_writer_whose_name_is_taken_leaves_the_other_pack_alone(
    backend: PackBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(backend, NAME)
    monkeypatch.setattr("zipfs.store.packs.writer.os.urandom", lambda nbytes: bytes(NAME))
    writer = PackWriter(backend)
    _write_blobs(writer, 1)
    writer.sync()
    with pytest.raises(FileExistsError):
        writer.finish(_nothing)
    writer.abandon()
    assert read_all(backend, NAME) == CONTENT
    assert list(backend.unfinished()) == []


def _served(store: Store) -> dict[bytes, bytes]:
    """Every served file, read from the packs anew."""
    found = {}
    with store.session() as session, Reader(session.frames) as reader:
        for path, inode in tree.walk(session.catalog, session.catalog.inode(ROOT)):
            if inode.kind is Kind.FILE:
                content = open_content(session, reader, inode)
                found[path] = bytes(content.read(0, content.nbytes))
                content.close()
    return found


def test_a_whole_store_stands_on_it(backend: PackBackend, tmp_path: Path) -> None:
    family = badly_based_family(20_000)
    small = {f"small/{number}".encode(): noise(300 + number, number) for number in range(9)}
    files = {**family, **small}
    path = tmp_path / "store"
    with open_store(path, create=True, packs=backend) as store:
        import_path(store, write_tree(tmp_path / "run", {name[4:]: family[name] for name in family}), b"run")
        for name, content in small.items():
            put_file(store, tmp_path / "scratch", name, content)
        assert set(backend.names()) == set(store.catalog.packs())
        assert _served(store) == files
        assert problems(store) == []

        remove(store, b"small/3")
        del files[b"small/3"]
        with Reader(store.frames) as reader:
            held = open_content(store, reader, tree.resolve(store.catalog, b"small/4", ROOT))
            assert collect_garbage(store).packs_merged > 0
            assert bytes(held.read(0, 1000)) == files[b"small/4"]
            held.close()
        assert optimize_all(store).rebased.tensors > 0
        assert list(check(store, read_data=True)) == []

    with open_store(path, packs=backend) as store:
        assert _served(store) == files
        assert set(backend.names()) == set(store.catalog.packs())

    (path / "catalog.db").unlink()
    assert rebuild(path, packs=backend).lost == []
    with open_store(path, packs=backend) as store:
        assert _served(store) == files
        assert problems(store) == []
