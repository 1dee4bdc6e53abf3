"""Prints a line for each name below a directory: attributes, extended ones, and what its content hashes to."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

CHUNK_NBYTES = 1 << 20
WHOLE_NBYTES = 16 << 20


def content_of(path: bytes, size: int) -> str:
    """Of a large file only some of its bytes."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        step = CHUNK_NBYTES if size <= WHOLE_NBYTES else max(size // 16, CHUNK_NBYTES)
        for at in range(0, size, step):
            digest.update(os.pread(file.fileno(), CHUNK_NBYTES, at))
    return digest.hexdigest()[:16]


def line_of(path: bytes) -> str:
    found = os.lstat(path)
    words = [oct(found.st_mode), str(found.st_uid), str(found.st_gid), str(found.st_mtime_ns)]
    if stat.S_ISREG(found.st_mode):
        words += [str(found.st_nlink), str(found.st_size), content_of(path, found.st_size)]
    if stat.S_ISLNK(found.st_mode):
        words.append(repr(os.readlink(path)))
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        words.append(f"{name}={hashlib.sha256(os.getxattr(path, name, follow_symlinks=False)).hexdigest()[:8]}")
    return " ".join((repr(path), *words))


def main() -> None:
    top = os.fsencode(Path(sys.argv[1]))
    for directory, folders, files in os.walk(top):
        for name in (*folders, *files):
            print(line_of(os.path.join(directory, name)))


if __name__ == "__main__":
    main()
