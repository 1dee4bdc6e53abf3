"""The file ZIPFS, by which a directory is known as a store: it names the format and the id.

Imports neither the catalog nor NumPy: whoever only asks whether a directory is a store waits for neither.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Final

from zipfs.errors import Damaged, NotAllowed, NotAStore, UnknownVersion
from zipfs.store.disk.access import who_owns
from zipfs.store.disk.files import open_file, replace_file, sync_directory

FORMAT: Final = 6
MARKER: Final = "ZIPFS"
_NBYTES_AT_MOST: Final = 4096


def is_store(path: Path) -> bool:
    """Return whether a directory is a store. Raises NotAllowed."""
    try:
        return stat.S_ISREG(os.stat(path / MARKER, follow_symlinks=False).st_mode)
    except PermissionError as error:
        raise NotAllowed(path, f"it belongs to {who_owns(path)} and is closed to others") from error
    except OSError:
        return False


def read_marker(path: Path) -> bytes:
    """Return the id of the store at `path`. Raises NotAStore, NotAllowed, UnknownVersion."""
    try:
        with open(open_file(path / MARKER), "rb") as file:
            document = json.loads(file.read(_NBYTES_AT_MOST))
        version, store_id = int(document["format"]), bytes.fromhex(document["id"])
    except FileNotFoundError:
        reason = "there is no such directory" if not path.exists() else "it has no file ZIPFS"
        raise NotAStore(path, reason) from None
    except NotADirectoryError:
        raise NotAStore(path, "it is a file") from None
    except NotAllowed as error:
        raise NotAllowed(path, f"it belongs to {who_owns(path)} and is closed to others") from error
    except (Damaged, ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
        raise NotAStore(path, f"its file ZIPFS cannot be read ({error})") from error
    if version > FORMAT:
        raise UnknownVersion(f"store {path}", version, FORMAT)
    if len(store_id) != 16:
        raise NotAStore(path, "its file ZIPFS holds no id")
    return store_id


def write_marker(path: Path, store_id: bytes) -> None:
    """Mark a directory as the store `store_id` of today's format, durably."""
    part = path / f"{MARKER}.part"
    with open(replace_file(part), "w") as file:
        json.dump({"format": FORMAT, "id": store_id.hex()}, file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path / MARKER)
    sync_directory(path)
