"""The kernel's end of a FUSE session, played by a test: a pair of sockets stands for the device.

Run as a program it is the other end: it serves the descriptor that it is told, and says as JSON lines what is written.
"""

from __future__ import annotations

import errno
import importlib
import json
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.mounts import DEADLINE_S, REPOSITORY

INIT, GETATTR, SETXATTR, WRITE = 26, 3, 21, 16
BIG_WRITES, MAX_PAGES, KILLPRIV_V2, INIT_EXT = 1 << 5, 1 << 22, 1 << 28, 1 << 30
DO_READDIRPLUS = 1 << 13
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
WRITE_IN = struct.Struct("<QQIIQII")
ROOM_NBYTES = 4 << 20


@dataclass(slots=True)
class Kernel:
    """Asks, and hears the answers. Each question has a number, which its answer repeats."""

    device: socket.socket
    daemon: subprocess.Popen[str]
    _number: int = field(default=1)

    def ask(self, opcode: int, body: bytes, *, nbytes: int | None = None) -> tuple[int, bytes]:
        """Return the errno and the body of the answer. `nbytes` is what the header says of its length, if that lies."""
        self._number += 1
        length = _IN.size + len(body) if nbytes is None else nbytes
        self.device.sendall(_IN.pack(length, opcode, self._number, 1, 0, 0, 1, 0, 0) + body)
        answer = self.device.recv(ROOM_NBYTES)
        length, error, number = _OUT.unpack_from(answer)
        assert (length, number) == (len(answer), self._number)
        return -error, answer[_OUT.size :]

    def init(self, flags: int, flags2: int = 0) -> tuple[int, int]:
        """Offer flags; return those that were agreed upon."""
        error, body = self.ask(INIT, struct.pack("<IIIIIII", 7, 38, 1 << 17, flags, flags2, 0, 0) + bytes(36))
        assert error == 0
        return struct.unpack_from("<I", body, 12)[0], struct.unpack_from("<I", body, 32)[0]

    def write(self, fh: int, offset: int, data: bytes, *, said: int | None = None) -> tuple[int, int]:
        """Return the errno and the count of the answer. `said` is what the request says of its size, if that lies."""
        size = len(data) if said is None else said
        error, body = self.ask(WRITE, WRITE_IN.pack(fh, offset, size, 0, 0, 0, 0) + data)
        return error, struct.unpack_from("<I", body)[0] if body else 0

    def heard(self) -> Any:
        """What the daemon says next of a handler that was called."""
        assert self.daemon.stdout is not None
        return json.loads(self.daemon.stdout.readline())


@contextmanager
def kernel(*, bound: bool = True) -> Iterator[Kernel]:
    """A daemon with a session, and its kernel. Without `bound` pyfuse3 comes first, and nothing lies in front of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(DEADLINE_S)
    command = [sys.executable, "-P", "-m", "tests.support.fake_kernel", str(theirs.fileno()), str(int(bound))]
    with ours, theirs:
        daemon = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        theirs.close()
        try:
            yield Kernel(ours, daemon)
        finally:
            ours.close()
            daemon.kill()
            daemon.communicate()


def said_of(data: bytes | memoryview) -> list[object]:
    return [type(data).__name__, len(data), zlib.crc32(data)]


def serve(fd: int, *, bound: bool) -> None:
    if not bound:
        importlib.import_module("pyfuse3")
    device = importlib.import_module("zipfs.mount.device")
    import pyfuse3
    import trio

    from zipfs.store.frames.buffers import BufferPool

    def tell(*what: object) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    class Handlers(pyfuse3.Operations):
        async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
            try:
                data = device.written(fh, off, buf)
            except LookupError:
                raise pyfuse3.FUSEError(errno.EIO) from None
            tell("write", fh, off, *said_of(data))
            return len(data)

        async def setxattr(self, inode: pyfuse3.InodeT, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
            tell("setxattr", name.decode(), *said_of(value))

    device.prepare(BufferPool(8 << 20))
    pyfuse3.init(Handlers(), f"/dev/fd/{fd}", {"fsname=fake"})
    trio.run(pyfuse3.main)


if __name__ == "__main__":
    serve(int(sys.argv[1]), bound=bool(int(sys.argv[2])))
