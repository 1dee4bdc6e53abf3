"""A part is written in blocks past the page cache, and can be read all the time, whatever is in the file by then."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stores import noise
from zipfs.errors import PackDamaged
from zipfs.store.objects.values import PackName
from zipfs.store.packs import local_file
from zipfs.store.packs.file import ReadRange
from zipfs.store.packs.local import LocalPacks
from zipfs.store.packs.local_file import LocalPart

NAME = PackName(b"\x07" * 16)
CONTENT = noise(11_000_001, 4)
PIECES = [CONTENT[at : at + 700_001] for at in range(0, len(CONTENT), 700_001)]


def _no_direct(fd: int, *, is_direct: bool) -> bool:
    return False


def _refuse_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse the first write, as a file system with larger blocks would."""
    original = os.pwrite
    refused: list[int] = []

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if not refused:
            refused.append(offset)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return original(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


def _refuse_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(fd: int, buffers: object, offset: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "preadv", preadv)


WAYS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "direct": lambda monkeypatch: None,
    "by-the-page-cache": lambda monkeypatch: monkeypatch.setattr(local_file, "_set_direct", _no_direct),
    "refused-when-written": _refuse_writes,
    "refused-when-read": _refuse_reads,
}


@pytest.fixture(params=WAYS)
def part(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalPart:
    WAYS[request.param](monkeypatch)
    made = LocalPacks(tmp_path).begin(NAME)
    assert isinstance(made, LocalPart)
    return made


def assert_holds(part: LocalPart, content: bytes) -> None:
    """Read ranges around every border that there may be, one by one and all at once."""
    file = part.file
    assert part.nbytes == file.nbytes == len(content)
    borders = {0, 4096, part.on_disk_nbytes, 4 << 20, 8 << 20, len(content) // 4096 * 4096, len(content)}
    ranges = [
        (at, min(nbytes, len(content) - at))
        for border in sorted(borders)
        for at in (border - 5000, border - 1, border, border + 1)
        if 0 <= at <= len(content)
        for nbytes in (1, 4096, 300_000)
    ]
    buffers = [memoryview(bytearray(nbytes)) for _, nbytes in ranges]
    file.read_ranges([ReadRange(file, at, into) for (at, _), into in zip(ranges, buffers, strict=True)])
    for (at, nbytes), into in zip(ranges, buffers, strict=True):
        assert bytes(into) == file.read(at, nbytes) == content[at : at + nbytes]
    with pytest.raises(PackDamaged, match="ends 7 bytes too early"):
        file.read(len(content) - 3, 10)


def test_it_can_be_read_while_it_is_written_and_afterwards(part: LocalPart, tmp_path: Path) -> None:
    at = 0
    for piece in PIECES:
        part.append(piece)
        at += len(piece)
        assert part.on_disk_nbytes <= at
        assert_holds(part, CONTENT[:at])
    file = part.file
    part.sync()
    file.forget_cached()
    assert_holds(part, CONTENT)
    part.finish(lambda: None)
    assert file.read(0, len(CONTENT)) == CONTENT  # by whoever still has it
    assert Path(LocalPacks(tmp_path).where(NAME)).read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [0, 3, 4095, 4096, 4_194_304, 4_200_000, 8_388_607, 8_388_608, 10_999_999])
def test_what_is_taken_back_is_written_anew(kept: int, part: LocalPart, tmp_path: Path) -> None:
    for piece in PIECES:
        part.append(piece)
    part.truncate(kept)
    if kept >= 3:
        assert_holds(part, CONTENT[:kept])
    part.append(CONTENT[::-1])
    part.truncate(kept + 5_000_000)
    part.append(b"the end")
    content = CONTENT[:kept] + CONTENT[::-1][:5_000_000] + b"the end"
    assert_holds(part, content)
    part.sync()
    part.file.forget_cached()
    assert_holds(part, content)
    part.finish(lambda: None)
    assert Path(LocalPacks(tmp_path).where(NAME)).read_bytes() == content


def test_only_what_is_not_in_the_page_cache_counts_as_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_file, "_set_direct", _no_direct)
    part = LocalPacks(tmp_path).begin(NAME)
    for piece in PIECES:
        part.append(piece)
    assert part.on_disk_nbytes == 0
    part.discard()
