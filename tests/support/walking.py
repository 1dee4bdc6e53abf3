"""A random walk over files of a mount, for one who only reads, in the manner of fsx: each step is done to a served file
and to its plain copy.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
from dataclasses import dataclass
from typing import Final

from tests.support.plain import Different, Plain, Spec, compare

MIB: Final = 1 << 20
_PAGE: Final = 4096
_MAP_POPULATE: Final = 0x8000
_SIZES: Final = (1, 100, _PAGE, 65_536, 131_072, 200_001, MIB, 3 * MIB + 1)
_ADVICE: Final = (
    os.POSIX_FADV_NORMAL,
    os.POSIX_FADV_RANDOM,
    os.POSIX_FADV_SEQUENTIAL,
    os.POSIX_FADV_WILLNEED,
    os.POSIX_FADV_DONTNEED,
    os.POSIX_FADV_NOREUSE,
)


@dataclass(slots=True)
class _Open:
    fd: int
    """A descriptor of the served file."""
    reference: int
    """One of the plain copy, to which the same is done."""
    path: str
    expected: memoryview


class Walk:
    """One walk; `go` is a step."""

    def __init__(self, chance: random.Random, spec: Spec, plain: Plain) -> None:
        self._chance = chance
        self._spec = spec
        self._plain = plain
        self._files: list[_Open] = []
        self._views: list[tuple[mmap.mmap, int, _Open]] = []
        self._trail: list[str] = []
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.readahead.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_size_t]

    def close(self) -> None:
        for view, _, _ in self._views:
            view.close()
        for file in self._files:
            os.close(file.fd)
            os.close(file.reference)

    def go(self) -> None:
        if not self._files:
            self._open()
            return
        step = self._chance.choices(
            (self._open, self._duplicate, self._close, self._seek, self._read, self._pread, self._advise, self._map,
             self._touch, self._unmap, self._send, self._read_vectors),
            (4, 2, 3, 8, 30, 30, 10, 4, 30, 3, 5, 8),
        )[0]  # fmt: skip
        try:
            step()
        except Different as error:
            raise Different(f"{error}\nafter: {'; '.join(self._trail[-40:])}") from None

    def _note(self, what: str) -> None:
        self._trail.append(what)

    def _any(self) -> _Open:
        return self._chance.choice(self._files)

    def _offset(self, file: _Open) -> int:
        nbytes = len(file.expected)
        near = self._chance.choice((0, nbytes, self._chance.randrange(nbytes + 1) // MIB * MIB))
        choice = self._chance.choice((self._chance.randrange(nbytes + 1), near + self._chance.randrange(-5000, 5000)))
        return max(0, choice)

    def _nbytes(self) -> int:
        return self._chance.choice((*_SIZES, self._chance.randrange(1, 300_000)))

    def _open(self) -> None:
        if len(self._files) >= 8:
            return
        pair = self._chance.choice(self._spec.good)
        path = pair.plain[0]
        self._note(f"open {pair.served}")
        fd, reference = os.open(pair.served, os.O_RDONLY), os.open(path, os.O_RDONLY)
        self._files.append(_Open(fd, reference, pair.served, self._plain.of(path)))

    def _duplicate(self) -> None:
        file = self._any()
        if len(self._files) < 8:
            self._note(f"dup {file.fd}")
            self._files.append(_Open(os.dup(file.fd), os.dup(file.reference), file.path, file.expected))

    def _close(self) -> None:
        file = self._any()
        self._note(f"close {file.fd}")
        self._files.remove(file)
        os.close(file.fd)
        os.close(file.reference)

    def _seek(self) -> None:
        file = self._any()
        whence = self._chance.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END))
        at = self._chance.randrange(-MIB, MIB) if whence != os.SEEK_SET else self._offset(file)
        self._note(f"lseek {file.fd} {at} {whence}")
        found = []
        for fd in (file.fd, file.reference):
            try:
                found.append(os.lseek(fd, at, whence))
            except OSError as error:
                found.append(-(error.errno or 0))
        if found[0] != found[1]:
            raise Different(f"{file.path}: lseek({at}, {whence}) gives {found[0]} instead of {found[1]}")

    def _read(self) -> None:
        file, size = self._any(), self._nbytes()
        at = os.lseek(file.fd, 0, os.SEEK_CUR)
        self._note(f"read {file.fd} {size} at {at}")
        compare(os.read(file.fd, size), memoryview(os.read(file.reference, size)), file.path, at)

    def _pread(self) -> None:
        file, size = self._any(), self._nbytes()
        at = self._offset(file)
        self._note(f"pread {file.fd} {size} at {at}")
        compare(os.pread(file.fd, size, at), file.expected[at : at + size], file.path, at)

    def _read_vectors(self) -> None:
        file = self._any()
        at = self._offset(file)
        sizes = self._chance.choices((0, 1, 17, _PAGE, 100_000), k=self._chance.randrange(1, 9))
        parts = [bytearray(size) for size in sizes]
        self._note(f"preadv {file.fd} {sizes} at {at}")
        count = os.preadv(file.fd, parts, at)
        compare(b"".join(parts)[:count], file.expected[at : at + sum(sizes)], file.path, at)

    def _advise(self) -> None:
        file, at, nbytes = self._any(), 0, 0
        if self._chance.random() < 0.7:
            at, nbytes = self._offset(file), self._chance.choice((0, _PAGE, MIB, 8 * MIB))
        if self._chance.random() < 0.3:
            self._note(f"readahead {file.fd} {nbytes} at {at}")
            self._libc.readahead(file.fd, at, nbytes)
            return
        advice = self._chance.choice(_ADVICE)
        self._note(f"fadvise {file.fd} {nbytes} at {at} {advice}")
        os.posix_fadvise(file.fd, at, nbytes, advice)

    def _map(self) -> None:
        if len(self._views) >= 6:
            return
        file = self._any()
        at = self._chance.randrange(len(file.expected)) // _PAGE * _PAGE
        nbytes = min(len(file.expected) - at, self._chance.choice((1, _PAGE + 1, MIB, 5 * MIB)))
        flags = self._chance.choice((mmap.MAP_PRIVATE, mmap.MAP_SHARED, mmap.MAP_SHARED | _MAP_POPULATE))
        self._note(f"mmap {file.fd} {nbytes} at {at}")
        self._views.append((mmap.mmap(file.fd, nbytes, flags=flags, prot=mmap.PROT_READ, offset=at), at, file))

    def _touch(self) -> None:
        """Pages of a mapping; it outlives its descriptor."""
        if not self._views:
            return
        view, begin, file = self._chance.choice(self._views)
        if self._chance.random() < 0.2:
            advice = (mmap.MADV_NORMAL, mmap.MADV_RANDOM, mmap.MADV_SEQUENTIAL, mmap.MADV_WILLNEED, mmap.MADV_DONTNEED)
            view.madvise(self._chance.choice(advice))
        for _ in range(self._chance.randrange(1, 8)):
            at, size = self._chance.randrange(len(view)), self._chance.choice((1, _PAGE, 70_000))
            self._note(f"touch {size} at {begin}+{at}")
            stop = min(begin + len(view), begin + at + size)
            compare(view[at : at + size], file.expected[begin + at : stop], file.path, begin + at)

    def _unmap(self) -> None:
        if self._views:
            self._note("munmap")
            view, _, _ = self._views.pop(self._chance.randrange(len(self._views)))
            view.close()

    def _send(self) -> None:
        """To a file in memory, by the kernel alone."""
        file, size = self._any(), self._nbytes()
        at = self._offset(file)
        copy = self._chance.choice((os.sendfile, os.copy_file_range))
        self._note(f"{copy.__name__} {file.fd} {size} at {at}")
        target = os.memfd_create("sent")
        try:
            if copy is os.sendfile:
                count = os.sendfile(target, file.fd, at, size)
            else:
                count = os.copy_file_range(file.fd, target, size, at)
            compare(os.pread(target, size, 0), file.expected[at : at + count], file.path, at)
            if not count and at < len(file.expected):
                raise Different(f"{file.path}: nothing was copied at {at}")
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP):
                raise
        finally:
            os.close(target)
