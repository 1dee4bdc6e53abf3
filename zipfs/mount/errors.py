"""What every handler goes through: it is counted, and an error becomes an errno for the kernel here and nowhere else.

Whatever a handler raises, the mount goes on: a `ZipfsError` brings its errno, anything else is a bug of ours, logged
with its traceback and answered with EIO.

A request counts from when its handler starts until the answer is ready: not the time that it waited for the event loop
before, nor that of handing the answer to the kernel.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import pyfuse3

from zipfs.errors import Damaged, NotWritable, ZipfsError
from zipfs.metrics.counters import Counters

log = logging.getLogger(__name__)


class Counting(Protocol):
    """Whose handlers are counted."""

    @property
    def counters(self) -> Counters: ...


S = TypeVar("S", bound=Counting)
P = ParamSpec("P")
T = TypeVar("T")

_MOVED: Final[dict[str, Callable[[Any], int]]] = {"read": len, "write": int}
"""Handler -> the bytes that its answer stands for; of the others, none."""


def guarded(handler: Callable[Concatenate[S, P], Awaitable[T]]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Count the requests that a handler answers, under its name, and let nothing but FUSEError out of it."""
    name = handler.__name__
    moved = _MOVED.get(name)

    @functools.wraps(handler)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        timer = self.counters.operation(name)
        began_s = perf_counter()
        try:
            result = await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError as error:
            timer.fail(perf_counter() - began_s, name_of(error.errno))
            raise
        except Exception as error:  # noqa: BLE001  # anything else out of a handler would end the mount
            number = errno_of(error, name)
            timer.fail(perf_counter() - began_s, name_of(number))
            raise pyfuse3.FUSEError(number) from None
        timer.add(perf_counter() - began_s, 0 if moved is None else moved(result))
        return result

    return wrapper


def name_of(number: int) -> str:
    """`ENOENT`."""
    return errno.errorcode.get(number, str(number))


def errno_of(error: BaseException, during: str) -> int:
    """The number for an error; what is wrong with the store, its disk or with our code is logged."""
    if isinstance(error, ZipfsError):
        if isinstance(error, Damaged | NotWritable):
            log.error("%s: %s", during, error)
        return error.errno
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOENT,
        errno.EFBIG,
        errno.EINVAL,
        errno.EMFILE,
        errno.ENFILE,
    ):
        return error.errno
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM):
        log.error("%s: %s", during, error)
        return error.errno
    log.error("%s failed unexpectedly; that is a bug in ZipFS", during, exc_info=error)
    return errno.EIO
