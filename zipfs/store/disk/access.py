"""Rights to a store: nobody but its owner writes to it or looks into it.

What a mount serves has modes and owners, and the kernel enforces them; what lies in a store is the content of all of
them at once. Whoever wants to share does so through a mount with --allow-other.
"""

from __future__ import annotations

import logging
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from zipfs.errors import NotAllowed
from zipfs.store.disk.files import create_file, is_private, tighten, walk

log = logging.getLogger(__name__)

_LAST: Final = "ZIPFS"
"""What is tightened last: its mode says whether all the rest has been."""


def who_owns(path: Path) -> str:
    """Return the name of the user that a directory belongs to, or `user 1234`."""
    try:
        uid = os.stat(path).st_uid
    except OSError:
        return "somebody else"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def require_ours(path: Path) -> None:
    """Raise NotAllowed unless we are the owner of a store, or root.

    Files that others made in it would be closed to its owner.
    """
    owner = os.stat(path).st_uid
    if os.geteuid() in (0, owner) or _owner_of_new_files(path, owner) == owner:
        return
    raise NotAllowed(
        path, f"it belongs to {who_owns(path)}, who alone may change it; to share it, mount it with --allow-other"
    )


def _owner_of_new_files(path: Path, owner: int) -> int:
    """Return the owner of files that we make in a directory: on FAT and some network drives always one user."""
    probe = path / f".zipfs-{os.getpid()}"
    try:
        fd = create_file(probe)
    except PermissionError:
        return os.geteuid()
    except OSError:  # read-only, or full: told by whatever needs to write
        return owner
    try:
        return os.fstat(fd).st_uid
    finally:
        os.close(fd)
        with suppress(OSError):
            probe.unlink()


def close_to_others(path: Path) -> None:
    """Take every right to a store of ours from all others, and say so where it was open to them.

    The store itself is closed first, so that nobody opens what is still open to them below it. The store of another
    user is left for that user to close.
    """
    marker = path / _LAST
    if os.stat(path).st_uid != os.geteuid() or (is_private(path.resolve()) and _is_done(marker)):
        return
    mode = stat.filemode(os.stat(path).st_mode)
    try:
        tighten(path.resolve())
        if not is_private(path.resolve()):
            log.warning("%s is open to other users (%s): its file system keeps no modes", path, mode)
            return
        for item in walk(path):
            if item != marker and not is_private(item):
                # What is gone was collected or compressed; what may not be opened is somebody else's, and shut in.
                with suppress(FileNotFoundError, PermissionError):
                    tighten(item)
        if os.path.lexists(marker):
            tighten(marker)
    except PermissionError as error:
        log.warning("%s is open to other users, and cannot be closed to them: %s", path, error.strerror)
        return
    if os.path.lexists(marker):
        log.warning(
            "%s was open to other users (%s); it is closed to them now, with all that it holds; to share it, mount it"
            " with --allow-other",
            path,
            mode,
        )


def _is_done(marker: Path) -> bool:
    """Return whether the marker is closed to others, or has a second name elsewhere, which keeps any file as it is."""
    return os.path.lexists(marker) and (is_private(marker) or os.lstat(marker).st_nlink > 1)
