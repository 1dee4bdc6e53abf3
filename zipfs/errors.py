"""Every error that ZipFS raises on purpose.

The docstring of a class is its message; the arguments of the constructor fill it in. Each class has the exit code that
the command line ends with and the errno that a mount answers with; nothing else in ZipFS maps errors to numbers.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class ZipfsError(Exception):
    """{0}"""

    exit_code: ClassVar[int] = 1
    errno: ClassVar[int] = errno.EIO

    def __str__(self) -> str:
        return (self.__doc__ or "").format(*(_printable(argument) for argument in self.args))


def _printable(argument: object) -> object:
    """Names come from file systems as bytes; show them as text whatever they hold."""
    if isinstance(argument, bytes):
        return argument.decode("utf-8", "backslashreplace")
    if isinstance(argument, str):
        return argument.encode("utf-8", "backslashreplace").decode("utf-8")
    return argument


# Exit code 3: what was named does not exist or cannot be used as asked.


class NotAStore(ZipfsError):
    """{0} is not a ZipFS store: {1}. Name the directory that `zipfs mount` or `zipfs ingest` made, or its mount."""

    exit_code = 3
    errno = errno.ENOENT


class PathError(ZipfsError):
    """{0}: {1}"""

    exit_code = 3
    errno = errno.ENOENT


class NotAllowed(PathError):
    """{0}: {1}"""

    errno = errno.EACCES


class NotFound(PathError):
    """{0}: no such file or directory in the store"""


class AlreadyExists(PathError):
    """{0}: exists already"""

    errno = errno.EEXIST


class NotADirectory(PathError):
    """{0}: is not a directory"""

    errno = errno.ENOTDIR


class IsADirectory(PathError):
    """{0}: is a directory"""

    errno = errno.EISDIR


class NotEmpty(PathError):
    """{0}: directory is not empty"""

    errno = errno.ENOTEMPTY


class NameTooLong(PathError):
    """{0}: a name has at most 255 bytes"""

    errno = errno.ENAMETOOLONG


class InvalidMove(PathError):
    """{0}: cannot be moved there: {1}"""

    errno = errno.EINVAL


class ReadOnly(PathError):
    """{0}: stored content is read-only; write a new version under ingest/ instead"""

    errno = errno.EROFS


class NoAttribute(PathError):
    """{0}: has no attribute {1}"""

    errno = errno.ENODATA


class Gone(NotFound):
    """{0}: was removed meanwhile"""

    errno = errno.ESTALE


class CrossesTrees(PathError):
    """{0}: what is served and what is below ingest/ cannot be moved or linked into each other; copy it"""

    errno = errno.EXDEV


class InUse(PathError):
    """{0}: the mount uses this name itself"""

    errno = errno.EBUSY


class Forbidden(PathError):
    """{0}: {1}"""

    errno = errno.EPERM


class NotSupported(PathError):
    """{0}: {1}"""

    errno = errno.EOPNOTSUPP


class NotWritable(PathError):
    """{0}: the store cannot be changed: {1}"""

    errno = errno.EROFS


class Refused(ZipfsError):
    """{0}: the change was refused and nothing of it was made: {1}"""

    errno = errno.EINVAL


class IllegalTransition(ZipfsError):
    """{0} cannot be {1}; that is a bug in ZipFS, or the store was changed by something else: see `zipfs fsck`"""


# Exit code 4: the machine is short of something; trying again later can help.


class StoreBusy(ZipfsError):
    """{0} is in use: {1}"""

    exit_code = 4
    errno = errno.EBUSY


class NoSpace(ZipfsError):
    """{0}: no space left on the store's disk: {1}. Free space there and try again."""

    exit_code = 4
    errno = errno.ENOSPC


class Stopped(ZipfsError):
    """stopped; what has been done stays, and the next run goes on from there"""

    exit_code = 130
    errno = errno.EINTR


# Exit code 5: stored bytes are not what they should be.


class Damaged(ZipfsError):
    """{0} is damaged: {1}"""

    exit_code = 5


class FrameDamaged(Damaged):
    """frame is damaged: {0}"""

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(reason)
        self.position = position
        """Number of the frame in its run, counted from 0."""


class PackDamaged(Damaged):
    """pack {0} is damaged at offset {1}: {2}"""


class CatalogDamaged(Damaged):
    """catalog is damaged: {0}. Run `zipfs fsck`, then `zipfs rebuild`."""


class CatalogUnreadable(Damaged):
    """catalog {0} cannot be read or written: {1}. Look after the disk, then try again."""


class ManifestDamaged(Damaged):
    """manifest log {0} is damaged at offset {1}: {2}"""


class UnknownVersion(Damaged):
    """{0} was written by a newer ZipFS (format {1}, this one reads up to {2}). Upgrade ZipFS to use it."""


# Never shown to a user: a parser's way of saying that a file is to be kept as plain bytes.


class NotThisFormat(ZipfsError):
    """{0}"""
