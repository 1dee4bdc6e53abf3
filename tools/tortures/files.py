"""One directory that is written in place, beside the model of what it has to hold.

Each method makes one call, or a few, and looks at once whether what came back is what the model says. What was changed
is noted in the model before the call, and settled when it has returned: see `tools/tortures/model.py`.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import mmap
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.tortures.model import Body, Difference, Short, Tree, compare, listed

BLOCK_NBYTES: Final = 4096
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
_CLOCK_S: Final = 0.05
"""The kernel takes times from a clock that ticks."""
_LEARNS_S: Final = 5.0
_STATE: Final = "user.zipfs.state"
_FINISHED: Final = frozenset({"sealed", "stored"})
_WORDS: Final = {
    os.O_APPEND: "O_APPEND", os.O_TRUNC: "O_TRUNC", os.O_CREAT: "O_CREAT", os.O_EXCL: "O_EXCL", os.O_DIRECT: "O_DIRECT",
}  # fmt: skip


@dataclass(slots=True, eq=False)
class Handle:
    """An open descriptor, a mapping, or both; `fd` is -1 once only the mapping is left."""

    number: int
    body: Body
    fd: int
    flags: int
    view: mmap.mmap | None = None
    born: str = ""
    """How it came to be, in words."""

    @property
    def readable(self) -> bool:
        return self.fd >= 0 and self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        return self.fd >= 0 and self.is_writer

    @property
    def is_writer(self) -> bool:
        """Whether content may change through it, if only through its mapping."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def is_direct(self) -> bool:
        return bool(self.flags & os.O_DIRECT)

    @property
    def appends(self) -> bool:
        return bool(self.flags & os.O_APPEND)

    @property
    def mapped_nbytes(self) -> int:
        """How much of its mapping lies in the file."""
        return 0 if self.view is None else min(len(self.view), self.body.nbytes)


class Files:
    """The directory, its model, and what is open. `on_mount`: whether ZipFS serves it, and says what state it is in."""

    def __init__(self, root: Path, *, on_mount: bool, beat: int = -1) -> None:
        self.root = root
        self.on_mount = on_mount
        self.tree = Tree()
        self.handles: list[Handle] = []
        self.counts: Counter[str] = Counter()
        self.done: deque[str] = deque(maxlen=60)
        """What was done last, in words."""
        self.steps = 0
        self._beat = beat
        self._began_s = 0.0
        self._numbers = 0
        self._libc = ctypes.CDLL(None, use_errno=True)

    # Telling

    def _begin(self, words: str, *bodies: Body) -> None:
        """Note what is about to be done. Whoever watches reads it from the beat, also if this process dies of it."""
        line = f"{self.steps}: {words}"
        self._began_s = time.time()
        self.done.append(line)
        for body in bodies:
            body.history.append(line)
        if self._beat >= 0:
            os.pwrite(self._beat, f"{line[:500]}\n".encode(), 0)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def state(self, name: str) -> str:
        """Return `open`, `sealed` or `stored`; nothing on a plain disk."""
        return os.getxattr(self.path(name), _STATE).decode() if self.on_mount else ""

    # Opening and closing

    def open(self, name: str, flags: int) -> Handle:
        """Open what is there, or make it with O_CREAT."""
        body = self.tree.names.get(name)
        words = "|".join(
            [("O_RDONLY", "O_WRONLY", "O_RDWR")[flags & 3], *(w for bit, w in _WORDS.items() if flags & bit)]
        )
        if body is None:
            body = Body(self._number(), 0o644, changed_s=self._began_s)
            self.tree.begin({name: body})
            self._begin(f"create {name} {words} as file {body.number}", body)
        else:
            self._begin(f"open {name} {words} of file {body.number}", body)
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        state = self.state(name) if writes and body.inode else ""
        if state in _FINISHED:
            self.counts[f"opened for writing while {state}"] += 1
            if writers := [handle.number for handle in self.handles if handle.body is body and handle.is_writer]:
                raise Difference(f"{name} is {state} although handles {writers} may write to it")
        emptied = bool(flags & os.O_TRUNC) and body.nbytes > 0
        if emptied:
            body.resize(0)
        elif flags & os.O_TRUNC:
            body.mtime_ns = None  # it counts as a change, also of what is empty
        fd = os.open(self.path(name), flags, 0o644)
        self.tree.settle()
        info = os.fstat(fd)
        if not body.inode:
            body.inode = info.st_ino
        if emptied:
            body = self._emptied(body, state, info.st_ino)
        body.settle()
        handle = Handle(self._number(), body, fd, flags, born=f"{self.done[-1]}{f', was {state}' if state else ''}")
        self.handles.append(handle)
        self.check_stat(info, body, f"opened {name}")
        if writes and self.on_mount and (now := os.getxattr(fd, _STATE)) != b"open":
            raise Difference(f"{name} is {now.decode()} although it is open for writing")
        return handle

    def _emptied(self, body: Body, state: str, inode: int) -> Body:
        """Finished content that others have open stays theirs, and its names lead to a new file."""
        others = [handle for handle in self.handles if handle.body is body]
        must = state in _FINISHED and bool(others)
        may = not any(handle.is_writer for handle in others) and self.on_mount
        if inode == body.inode:
            if must:
                raise Difference(f"O_TRUNC emptied what was {state} under handles {[h.number for h in others]}")
            self._changed(body)
            return body
        if not may:
            raise Difference(f"O_TRUNC made inode {inode} of {body.inode}, whose content was not finished")
        self.counts["new versions by O_TRUNC"] += 1
        fresh = Body(self._number(), body.mode, inode=inode, changed_s=self._began_s)
        undo = body.loose.pop()
        body.data[:] = undo.old
        self.tree.names.update(dict.fromkeys(self.tree.names_of(body), fresh))
        fresh.history = [*body.history[-1:]]
        self._wait_for_names(fresh)
        return fresh

    def _wait_for_names(self, body: Body) -> None:
        """The kernel is told of names beside the one that was opened, and learns of them a moment later."""
        deadline = time.monotonic() + _LEARNS_S
        for name in self.tree.names_of(body):
            while os.stat(self.path(name)).st_ino != body.inode:
                if time.monotonic() > deadline:
                    raise Short(f"{name} still leads to the version before the one that O_TRUNC has made")
                time.sleep(0.001)

    def close(self, handle: Handle, *, keep_mapping: bool = False) -> None:
        keeps = keep_mapping and handle.view is not None
        self._begin(f"close handle {handle.number}{', keep its mapping' if keeps else ''}", handle.body)
        fd, handle.fd = handle.fd, -1
        if not keeps:
            self.handles.remove(handle)
            self._unmap(handle)
        if fd >= 0:
            os.close(fd)

    def _unmap(self, handle: Handle) -> None:
        if handle.view is not None:
            handle.view.close()
            handle.view = None

    def close_all(self, body: Body) -> None:
        for handle in [handle for handle in self.handles if handle.body is body]:
            self.close(handle)

    def abandon(self) -> None:
        """Let go of everything, whatever that says: the file system has died."""
        for handle in self.handles:
            self._unmap(handle)
            if handle.fd >= 0:
                try:
                    os.close(handle.fd)
                except OSError:
                    continue
        self.handles.clear()

    # Content

    def write(self, handle: Handle, offset: int, data: bytes) -> None:
        body = handle.body
        if handle.appends:
            offset = body.nbytes
        how = "append" if handle.appends else "write"
        self._begin(f"{how} {len(data)} at {offset} by handle {handle.number} of {body}", body)
        body.write(offset, data)
        buffer: bytes | mmap.mmap = data
        if handle.is_direct:
            buffer = mmap.mmap(-1, len(data))
            buffer[:] = data
        done = os.write(handle.fd, buffer) if handle.appends else os.pwrite(handle.fd, buffer, offset)
        if done != len(data):
            raise OSError(errno.EIO, f"{done} bytes were written of {len(data)}")
        self._changed(body)
        self.counts["bytes written"] += len(data)

    def _changed(self, body: Body) -> None:
        body.settle()
        body.changed_s, body.mtime_ns = self._began_s, None

    def map(self, handle: Handle) -> None:
        """Map all of a file that is not empty."""
        self._begin(f"map handle {handle.number} of {handle.body}", handle.body)
        access = mmap.ACCESS_WRITE if handle.writable and handle.readable else mmap.ACCESS_READ
        handle.view = mmap.mmap(handle.fd, handle.body.nbytes, access=access)

    def is_mapped_for_writing(self, handle: Handle) -> bool:
        return handle.view is not None and handle.flags & os.O_ACCMODE == os.O_RDWR

    def write_mapped(self, handle: Handle, offset: int, data: bytes, *, sync: bool) -> None:
        """Write within the file through the mapping of a handle."""
        body = handle.body
        assert handle.view is not None
        synced = ", msync" if sync else ""
        self._begin(f"write {len(data)} at {offset} by the mapping of handle {handle.number} of {body}{synced}", body)
        body.write(offset, data)
        handle.view[offset : offset + len(data)] = data
        if sync:
            handle.view.flush()
        body.settle()
        body.mtime_ns = None  # the time is that of the first write to a page, or of when it is written back

    def write_mapped_by_child(self, handle: Handle, offset: int, data: bytes) -> None:
        """Map, write and msync in a child: it dies of SIGBUS where the file system does. Raises OSError then."""
        body = handle.body
        self._begin(f"write {len(data)} at {offset} by a mapping of handle {handle.number} of {body}, msync", body)
        body.write(offset, data)
        child = os.fork()
        if not child:
            try:
                faulthandler.disable()
                view = mmap.mmap(handle.fd, body.nbytes)
                view[offset : offset + len(data)] = data
                view.flush()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if status:
            raise OSError(
                errno.EIO, f"the child that wrote by a mapping ended with {os.waitstatus_to_exitcode(status)}"
            )
        self._changed(body)

    def read_mapped(self, handle: Handle, offset: int, nbytes: int) -> None:
        assert handle.view is not None
        body = handle.body
        self._begin(f"read {nbytes} at {offset} by the mapping of handle {handle.number} of {body}")
        self._compare(bytes(handle.view[offset : offset + nbytes]), body, offset, nbytes)

    def sync_mapping(self, handle: Handle) -> None:
        assert handle.view is not None
        self._begin(f"msync handle {handle.number}", handle.body)
        handle.view.flush()

    def read(self, handle: Handle, offset: int, nbytes: int) -> None:
        body = handle.body
        self._begin(f"read {nbytes} at {offset} by handle {handle.number} of {body}")
        if handle.is_direct:
            with mmap.mmap(-1, nbytes) as buffer:
                got = bytes(buffer[: os.preadv(handle.fd, [buffer], offset)])
        else:
            got = os.pread(handle.fd, nbytes, offset)
        self._compare(got, body, offset, nbytes)

    def _compare(self, found: bytes, body: Body, offset: int, nbytes: int) -> None:
        self.counts["bytes compared"] += len(found)
        try:
            compare(found, body.data[offset : offset + nbytes], offset)
        except Difference as error:
            raise type(error)(f"{body}: {error}") from error

    def read_whole(self, name: str) -> None:
        """Open, look at everything, close."""
        body = self.tree.names[name]
        self._begin(f"read {name}, {body}")
        with open(self.path(name), "rb", buffering=0) as file:
            self._compare(file.read(), body, 0, body.nbytes + 1)
            self.check_stat(os.fstat(file.fileno()), body, f"read {name}")
        body.history.clear()

    def truncate(self, target: Handle | str, nbytes: int) -> None:
        """By a handle or by path."""
        if isinstance(target, Handle):
            body, words = target.body, f"handle {target.number}"
        else:
            body, words = self.tree.names[target], target
            if (state := self.state(target)) in _FINISHED:
                self.counts[f"truncated by path while {state}"] += 1
        self._begin(f"truncate {words} of {body} to {nbytes}", body)
        changes = nbytes != body.nbytes
        body.resize(nbytes)
        os.truncate(target.fd if isinstance(target, Handle) else self.path(target), nbytes)
        body.settle()
        # POSIX leaves it open whether a truncation to the same size is a change.
        body.mtime_ns, body.changed_s = None, self._began_s if changes else body.changed_s

    def reserve(self, handle: Handle, nbytes: int) -> None:
        """posix_fallocate, which the C library does by writing where the file system does not."""
        body = handle.body
        self._begin(f"reserve up to {nbytes} by handle {handle.number} of {body}", body)
        grows = nbytes > body.nbytes
        body.resize(max(nbytes, body.nbytes))
        os.posix_fallocate(handle.fd, 0, nbytes)
        body.settle()
        body.mtime_ns, body.changed_s = None, self._began_s if grows else body.changed_s

    def copy_range(self, source: Handle, target: Handle, begin: int, offset: int, nbytes: int) -> None:
        """copy_file_range between two files."""
        words = f"copy {nbytes} at {begin} of {source.body} to {offset} of {target.body}"
        self._begin(f"{words} by handles {source.number} and {target.number}", target.body)
        done = os.copy_file_range(source.fd, target.fd, nbytes, begin, offset)
        if not 0 < done <= nbytes:
            raise Difference(f"{done} bytes were copied of {nbytes}")
        target.body.write(offset, bytes(source.body.data[begin : begin + done]))
        self._changed(target.body)

    def sync(self, handle: Handle, *, data_only: bool) -> None:
        self._begin(f"{'fdatasync' if data_only else 'fsync'} handle {handle.number}", handle.body)
        (os.fdatasync if data_only else os.fsync)(handle.fd)

    # Attributes

    def chmod(self, target: Handle | str, mode: int) -> None:
        body = target.body if isinstance(target, Handle) else self.tree.names[target]
        self._begin(f"chmod {mode:o} {body}", body)
        body.mode = -1
        os.chmod(target.fd if isinstance(target, Handle) else self.path(target), mode)
        body.mode = mode

    def set_mtime(self, target: Handle | str, mtime_ns: int) -> None:
        body = target.body if isinstance(target, Handle) else self.tree.names[target]
        self._begin(f"set the mtime of {body} to {mtime_ns}", body)
        body.mtime_ns = None
        os.utime(target.fd if isinstance(target, Handle) else self.path(target), ns=(mtime_ns, mtime_ns))
        is_mapped = any(handle.body is body and self.is_mapped_for_writing(handle) for handle in self.handles)
        body.mtime_ns = None if is_mapped else mtime_ns  # what is written back later counts as a change
        body.changed_s = 0.0

    def check_stat(self, info: os.stat_result, body: Body, what: str) -> None:
        """Compare attributes with the model. Raises Difference."""
        links = len(self.tree.names_of(body))
        for name, found, expected in (
            ("size", info.st_size, body.nbytes), ("inode", info.st_ino, body.inode or info.st_ino),
            ("mode", oct(info.st_mode & 0o7777), oct(body.mode)), ("links", info.st_nlink, links),
        ):  # fmt: skip
            if found != expected:
                raise Difference(f"{what}, {body}: {name} is {found} instead of {expected}")
        if body.mtime_ns is not None and info.st_mtime_ns != body.mtime_ns:
            raise Difference(f"{what}, {body}: mtime is {info.st_mtime_ns} instead of {body.mtime_ns}, as it was set")
        early_s = body.changed_s - info.st_mtime_ns / 1e9
        if body.mtime_ns is None and early_s > _CLOCK_S:
            raise Difference(f"{what}, {body}: mtime lies {early_s:.3f} s before the last change")

    # Names

    def move(self, old: str, new: str, flags: int = 0) -> None:
        """Rename over, exchange, or rename if nothing is there."""
        one, other = self.tree.names[old], self.tree.names.get(new)
        how = {0: "rename", RENAME_NOREPLACE: "rename, replacing nothing,", RENAME_EXCHANGE: "exchange"}[flags]
        self._begin(f"{how} {old} ({one}) and {new} ({other})", *(body for body in (one, other) if body is not None))
        refused = flags == RENAME_NOREPLACE and other is not None
        if flags == RENAME_EXCHANGE:
            self.tree.begin({old: other, new: one})
        elif not refused and one is not other:  # two names of one file: then nothing is done
            self.tree.begin({old: None, new: one})
        self._expect(FileExistsError if refused else None, lambda: self._renameat2(old, new, flags))

    def _renameat2(self, old: str, new: str, flags: int) -> None:
        paths = [os.fsencode(self.path(name)) for name in (old, new)]
        if self._libc.renameat2(-100, paths[0], -100, paths[1], flags) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.path(old), None, self.path(new))

    def _expect(self, refusal: type[OSError] | None, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError as error:
            if refusal is None or not isinstance(error, refusal):
                raise
            self.tree.forget()
            return
        if refusal is not None:
            raise Difference(f"it was not refused with {refusal.__name__}")
        self.tree.settle()

    def link(self, old: str, new: str) -> None:
        body = self.tree.names[old]
        taken = new in self.tree.names
        self._begin(f"link {new} to {old} ({body})", body)
        if not taken:
            self.tree.begin({new: body})
        self._expect(FileExistsError if taken else None, lambda: os.link(self.path(old), self.path(new)))

    def create_again(self, name: str) -> None:
        """O_EXCL where something is."""
        self._begin(f"create {name}, which is there")
        self._expect(FileExistsError, lambda: os.close(os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY)))

    def unlink(self, name: str) -> None:
        body = self.tree.names[name]
        self._begin(f"unlink {name} ({body})", body)
        self.tree.begin({name: None})
        os.unlink(self.path(name))
        self.tree.settle()

    def move_directory(self, old: str, new: str) -> None:
        """Rename a directory to a name that is free, with all in it."""
        self._begin(f"rename directory {old} to {new}")
        moved = {
            new + name.removeprefix(old) if name.startswith(f"{old}/") else name: body
            for name, body in self.tree.names.items()
        }
        self.tree.begin_all(moved)
        os.rename(self.path(old), self.path(new))
        self.tree.settle()

    def names_found(self) -> dict[str, os.stat_result]:
        """Every file below the directory."""
        found = {}
        pending = [""]
        while pending:
            prefix = pending.pop()
            with os.scandir(self.path(prefix)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{prefix}{entry.name}/")
                    else:
                        found[prefix + entry.name] = os.stat(entry.path, follow_symlinks=False)
        return found

    def check_names(self) -> None:
        """Compare all names and their attributes with the model."""
        self._begin("list")
        found = self.names_found()
        missing, more = self.tree.names.keys() - found.keys(), found.keys() - self.tree.names.keys()
        if missing or more:
            raise Difference(f"missing: {listed(missing)}; too many: {listed(more)}")
        for name, info in found.items():
            self.check_stat(info, self.tree.names[name], f"listed {name}")

    def check_everything(self) -> None:
        """Compare all names, and all content by each of them and by each open handle."""
        self.check_names()
        for name in self.tree.names:
            self.read_whole(name)
        for handle in self.handles:
            if handle.readable and not handle.is_direct:
                self.read(handle, 0, handle.body.nbytes + 1)
            if handle.mapped_nbytes:
                self.read_mapped(handle, 0, handle.mapped_nbytes)
