"""Packs in a directory: their names, and how many of them are kept open for how long."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zipfs.errors import Damaged
from zipfs.store.objects.values import BlobId, PackName
from zipfs.store.packs import local, local_file
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.writer import PackWriter


@pytest.fixture
def packs(tmp_path: Path) -> LocalPacks:
    return LocalPacks(tmp_path)


def create(packs: LocalPacks, number: int) -> PackName:
    name = PackName(number.to_bytes(16, "big"))
    part = packs.begin(name)
    part.append(str(number).encode())
    part.sync()
    part.finish(lambda: None)
    return name


def open_descriptors(directory: Path) -> list[str]:
    """What descriptors of this process lead to below a directory."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # that of the listing
            continue
        if target.startswith(str(directory)):
            found.append(target)
    return found


def test_a_pack_is_one_file_and_a_part_another(packs: LocalPacks, tmp_path: Path) -> None:
    name = create(packs, 7)
    packs.begin(PackName(bytes(16)))
    assert {path.name for path in tmp_path.iterdir()} == {f"{name.hex()}.pack", f"{'00' * 16}.pack.part"}
    assert packs.where(name) == str(tmp_path / f"{name.hex()}.pack")
    assert list(packs.unfinished()) == [str(tmp_path / f"{'00' * 16}.pack.part")]


def test_other_files_in_the_directory_are_no_packs(packs: LocalPacks, tmp_path: Path) -> None:
    name = create(packs, 7)
    for other in ("README", "xyz.pack", "abcd.pack", f"{'0' * 34}.pack"):
        (tmp_path / other).touch()
    assert list(packs.names()) == [name]


def test_what_is_no_regular_file_is_not_opened(packs: LocalPacks, tmp_path: Path) -> None:
    name = create(packs, 7)
    other = PackName(bytes(16))
    Path(packs.where(other)).symlink_to(packs.where(name))
    with pytest.raises(Damaged):
        packs.open(other)


def test_few_packs_are_kept_open(packs: LocalPacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_IDLE_FILES", 5)
    names = [create(packs, number) for number in range(20)]
    assert open_descriptors(tmp_path) == []
    held = packs.open(names[0])
    for name in names:
        packs.open(name)
    assert len(open_descriptors(tmp_path)) == 6
    assert held.read(0, 1) == b"0"
    del held
    assert len(open_descriptors(tmp_path)) == 5


def test_a_pack_that_is_used_again_stays_open(packs: LocalPacks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_IDLE_FILES", 2)
    often, *others = [create(packs, number) for number in range(5)]
    file = packs.open(often)
    for name in others:
        packs.open(name)
        assert packs.open(often) is file


@pytest.mark.parametrize("how", ["delete", "elsewhere"])
def test_the_space_of_a_deleted_pack_is_freed(how: str, packs: LocalPacks, tmp_path: Path) -> None:
    name = create(packs, 7)
    packs.open(name)
    assert len(open_descriptors(tmp_path)) == 1
    if how == "delete":
        packs.delete(name)
    else:  # by another process
        os.unlink(packs.where(name))
        packs.release_deleted()
    assert open_descriptors(tmp_path) == []


def test_a_pack_that_was_made_anew_under_its_name_is_opened_anew(packs: LocalPacks) -> None:
    name = create(packs, 7)
    packs.open(name)
    os.unlink(packs.where(name))
    create(packs, 7)
    assert packs.open(name).read(0, 1) == b"7"


@pytest.mark.parametrize("end", ["finish", "abandon"])
def test_a_writer_that_has_ended_holds_nothing_open(end: str, packs: LocalPacks, tmp_path: Path) -> None:
    writer = PackWriter(packs)
    assert len(open_descriptors(tmp_path)) == 2
    if end == "finish":
        writer.sync()
        writer.finish(lambda: None)
    else:
        writer.abandon()
    assert open_descriptors(tmp_path) == []


def test_a_pack_can_be_read_while_it_is_written_however_many_are_opened_meanwhile(
    packs: LocalPacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_IDLE_FILES", 5)
    names = [create(packs, number) for number in range(20)]
    writer = PackWriter(packs)
    for name in names:
        packs.open(name)
    writer.begin_blob()
    writer.append_frame(b"frame")
    blob = writer.end_blob(BlobId(1), 5, bytes(16), "", (), None)
    assert writer.file.read(blob.pack_offset, 5) == b"frame"
    writer.abandon()


def test_a_full_disk_leaves_nothing_of_a_pack(
    packs: LocalPacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    writer = PackWriter(packs)
    with pytest.raises(OSError, match="No space left"):
        writer.sync()
    writer.abandon()
    assert list(packs.unfinished()) == []
    assert open_descriptors(tmp_path) == []


def test_a_part_that_cannot_be_opened_twice_leaves_nothing(
    packs: LocalPacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(local_file, "open_file", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        packs.begin(PackName(bytes(16)))
    assert list(packs.unfinished()) == []
    assert open_descriptors(tmp_path) == []


def test_a_part_that_cannot_be_removed_is_closed(
    packs: LocalPacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = packs.begin(PackName(bytes(16)))

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(OSError, match="Read-only"):
        part.discard()
    assert open_descriptors(tmp_path) == []
