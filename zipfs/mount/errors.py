"""The one place at which an error becomes an errno for the kernel.

Whatever a handler raises, the mount goes on: a `ZipfsError` brings its errno, anything else is a bug of ours, logged
with its traceback and answered with EIO.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import pyfuse3

from zipfs.errors import Damaged, ZipfsError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def guarded(handler: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let nothing but FUSEError out of a handler."""

    @functools.wraps(handler)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:  # noqa: BLE001  # anything else out of a handler would end the mount
            raise pyfuse3.FUSEError(errno_of(error, handler.__name__)) from None

    return wrapper


def errno_of(error: BaseException, during: str) -> int:
    """The number for an error; damage and surprises are logged."""
    if isinstance(error, ZipfsError):
        if isinstance(error, Damaged):
            log.error("%s: %s", during, error)
        return error.errno
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOENT,
        errno.EFBIG,
        errno.EINVAL,
    ):
        return error.errno
    log.error("%s failed unexpectedly", during, exc_info=error)
    return errno.EIO
