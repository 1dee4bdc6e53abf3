"""Raises errors as a library's caller expects them, who catches OSError and asks for `errno` and `filename`.

Inside ZipFS they are no OSErrors, so that one of ours is never taken for one of the system's; at the edge of the
library each becomes both. Any thread may call.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from zipfs.errors import ZipfsError

_KINDS: Final[dict[int, type[OSError]]] = {
    errno.ENOENT: FileNotFoundError,
    errno.EEXIST: FileExistsError,
    errno.ENOTDIR: NotADirectoryError,
    errno.EISDIR: IsADirectoryError,
}


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Have whatever ZipfsError leaves the block be an OSError as well, of the class that Python has for its errno."""
    try:
        yield
    except OSError:
        raise
    except ZipfsError as error:
        of_ours: Any = type(error)
        of_system: Any = _KINDS.get(error.errno, OSError)
        kind = _both(of_ours, of_system)
        both = kind.__new__(kind)  # OSError would take some of the arguments for an errno, and drop others
        both.__dict__.update(error.__dict__)
        both.args = error.args
        both.strerror = str(error)
        both.filename = error.args[0] if error.args else None
        raise both.with_traceback(error.__traceback__) from error.__cause__


@cache
def _both(kind: Any, of_system: Any) -> Any:
    return type(kind.__name__, (kind, of_system), {"__doc__": kind.__doc__, "__module__": kind.__module__})
