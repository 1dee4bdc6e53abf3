"""Files and directories of a store: made for their owner alone, opened without following a link, read and synced.

Whatever ZipFS makes in a store is made by these functions: directories 0700 and files 0600, whatever the umask. Root's
files in the store of another user belong to the owner of the directory that they lie in, or root's help would shut the
owner out. What is opened must be a regular file: a store may come from somebody who put a link or a pipe in the
place of one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from zipfs.errors import Damaged, NoSpace, NotAllowed

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
_OTHERS: Final = 0o077
_SAFELY: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
_NOT_REGULAR: Final = "it is not a regular file"
_NO_FILES: Final = (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV)
"""Error numbers of opening a link, a socket or a pipe, a directory, a device."""


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file and return its descriptor. Raises FileNotFoundError, NotAllowed, Damaged for what is none."""
    try:
        fd = os.open(path, flags | _SAFELY | os.O_NONBLOCK)  # or a pipe would be waited at for good
    except PermissionError as error:
        raise NotAllowed(path, "cannot be opened: permission denied") from error
    except OSError as error:
        if error.errno in _NO_FILES:
            raise Damaged(path, _NOT_REGULAR) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Damaged(path, _NOT_REGULAR)
    return fd


def create_file(path: Path, flags: int = os.O_RDWR) -> int:
    """Make a new file and return a descriptor of it. Raises FileExistsError."""
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | _SAFELY, FILE_MODE)
    try:
        _make_private(fd, path, FILE_MODE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_or_create_file(path: Path, flags: int = os.O_RDWR) -> int:
    """Return a descriptor of a file, which is made where it is missing. Raises Damaged, NotAllowed."""
    while True:
        with suppress(FileNotFoundError):
            return open_file(path, flags)
        with suppress(FileExistsError):  # somebody was faster
            return create_file(path, flags)


def replace_file(path: Path) -> int:
    """Make a new file in the place of whatever is there and return a descriptor of it."""
    while True:
        path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            return create_file(path)


def opener(path: str, flags: int) -> int:
    """Open or make a file for `open(..., opener=opener)`."""
    flags &= ~(os.O_EXCL | os.O_CREAT)
    return open_or_create_file(Path(path), flags)


def make_directory(path: Path) -> None:
    """Make a directory of a store where it is missing. Raises Damaged where something else is in its place."""
    try:
        path.mkdir(DIRECTORY_MODE)
    except FileExistsError:
        check_directory(path)
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
    try:
        _make_private(fd, path, DIRECTORY_MODE)
    finally:
        os.close(fd)


def _make_private(fd: int, path: Path, mode: int) -> None:
    """Give what was just made its mode and its owner. File systems without either keep theirs."""
    with suppress(PermissionError):
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:  # the umask took bits away
            os.fchmod(fd, mode)
        if os.geteuid() == 0:
            parent = os.stat(path.parent)
            if parent.st_uid != 0:
                os.fchown(fd, parent.st_uid, parent.st_gid)


def check_directory(path: Path) -> None:
    """Raise Damaged unless a directory of a store is missing or a directory, and no link to one."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise Damaged(
                path,
                "it is not a directory. A store with a directory elsewhere needs a bind mount, not a symbolic link",
            )


def check_regular(path: Path) -> None:
    """Raise Damaged unless a file is missing or regular: for a library that opens it by itself."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise Damaged(path, _NOT_REGULAR)


def is_private(path: Path) -> bool:
    """Return whether nobody but the owner has any right to a file or directory. A link has none of its own."""
    mode = os.lstat(path).st_mode
    return stat.S_ISLNK(mode) or not mode & _OTHERS


def tighten(path: Path) -> None:
    """Take every right to a file or directory of ours from all others. Raises OSError.

    No link is followed. A file that has another name elsewhere is left alone: it may not be the store's.
    """
    fd = os.open(path, os.O_RDONLY | _SAFELY | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        ours = found.st_uid == os.geteuid() and (stat.S_ISDIR(found.st_mode) or found.st_nlink == 1)
        if ours and found.st_mode & _OTHERS:
            os.fchmod(fd, stat.S_IMODE(found.st_mode) & ~_OTHERS)
    finally:
        os.close(fd)


def walk(path: Path) -> Iterator[Path]:
    """Yield a directory and all files and directories below it, without following links."""
    for directory, _, names in os.walk(path):
        for name in [".", *names]:
            yield Path(directory, name)


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Raise NoSpace of the store at `path` where the block finds the disk full, or a quota used up."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(path, os.strerror(error.errno)) from error
        raise


def read_at(fd: int, offset: int, nbytes: int) -> bytes:
    """Read `nbytes` bytes from `offset` on; fewer only where the file ends. Raises OSError."""
    data = os.pread(fd, nbytes, offset)
    while len(data) < nbytes:
        more = os.pread(fd, nbytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
