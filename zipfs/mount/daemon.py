"""Owns the life of a mount: open the store, mount, serve until told to stop, unmount, close.

SIGTERM and SIGINT end it in order: requests under way are answered, the worker stops after the frame it is at, and the
mount point is released. What was not compressed is in the spool and is taken up by the next mount.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from zipfs.errors import StoreBusy, ZipfsError
from zipfs.host import mount_option
from zipfs.ingest.spool import Spool, clear_spool
from zipfs.metrics.counters import Counters
from zipfs.mount import device, points, process
from zipfs.mount.change_log import ChangeLog
from zipfs.mount.finisher import Finisher
from zipfs.mount.invalidator import Invalidator
from zipfs.mount.logs import Log, UnwrittenLog
from zipfs.mount.points import MountFailed
from zipfs.mount.reading_operations import ReadingOperations
from zipfs.mount.sealer import Sealer
from zipfs.mount.status import MountStatus
from zipfs.mount.supervisor import Supervisor
from zipfs.mount.sweeper import Sweeper
from zipfs.mount.tree_operations import TreeOperations
from zipfs.mount.virtual import Virtual
from zipfs.mount.writing_operations import WritingOperations
from zipfs.reading.warm_up import warm_up
from zipfs.store.disk.locks import FileLock
from zipfs.store.disk.space import default_reserve_nbytes
from zipfs.store.marker import read_marker
from zipfs.store.namespace.unfinished import STANDARD, UnfinishedNames
from zipfs.store.store import Store, open_store
from zipfs.vfs.refused_copies import RefusedCopies
from zipfs.vfs.visibility import Requester, Sight, status_for_others

log = logging.getLogger(__name__)

_MIN_TASKS = 2
_SWITCH_S = 0.0005
"""A thread that has decoded waits so long for the interpreter at most; a tenth of what Python takes by default."""
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD_NBYTES = 256 << 10
_M_TRIM_THRESHOLD = -1
_TRIM_THRESHOLD_NBYTES = 2 << 20
"""What a heap may keep free at its end, of each thread. SQLite takes some hundred KiB for a query and lets them go."""
_MAX_TASKS = 64


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What `zipfs mount` is asked for. Sizes in bytes, times in seconds."""

    store: Path
    mountpoint: Path
    read_only: bool = False
    takes_writes: bool = True
    """Whether files of the served tree can be written to; else content is written below `ingest/` only."""
    writeback_cache: bool = False
    """Whether a write may return before the daemon has its bytes."""
    allow_other: bool = False
    cache_nbytes: int = 512 << 20
    ingest_memory_nbytes: int = 256 << 20
    threads: int = 2
    quiet_s: float = 2.0
    linger_s: float = 300.0
    unfinished: UnfinishedNames = STANDARD
    reserve_nbytes: int | None = None
    optimize_after_s: float | None = 60.0
    """None: never."""
    kernel_options: frozenset[str] = frozenset()
    """More options that the kernel knows, such as `noexec`."""
    in_front: bool = False
    """Whether somebody reads its standard error; the log goes there, too."""


def serve(options: MountOptions, on_ready: Callable[[], None]) -> None:
    """Mount and serve until unmounted or told to stop. Raises MountFailed, StoreBusy, NotAStore, Damaged."""
    process.become_daemon(in_front=options.in_front)
    _return_freed_memory()
    sys.setswitchinterval(_SWITCH_S)
    journal = (UnwrittenLog if options.read_only else Log)(options.store / "log" / "zipfs.log")
    lock = FileLock(options.store / "locks" / "mount")
    if not options.read_only:
        read_marker(options.store)
        if not lock.try_acquire():
            raise StoreBusy(options.store, "it is mounted already; a second mount needs --read-only")
    journal.write_to_it(also_stderr=options.in_front)  # whoever has the lock is the only one who writes to the file
    try:
        with open_store(
            options.store,
            read_only=options.read_only,
            # What is being decoded or sent at the moment takes the rest.
            cache_nbytes=options.cache_nbytes - options.cache_nbytes // 8,
        ) as store:
            warm_up(store)
            gc.collect()
            gc.freeze()  # or every full collection would look through the program as well, while readers wait
            _Mount(store, options, journal, on_ready).run()
    except Exception as error:
        if not isinstance(error, ZipfsError | OSError):
            log.critical("the mount ends unexpectedly", exc_info=error)
        raise
    finally:
        lock.release()


class _Mount:
    """One mount and its tasks."""

    def __init__(self, store: Store, options: MountOptions, journal: Log, on_ready: Callable[[], None]) -> None:
        self._store = store
        self._options = options
        self._journal = journal
        self._on_ready = on_ready
        self._change_log = ChangeLog(store)
        self._invalidator = Invalidator(store, self._change_log)
        self._mounted = True
        self._counters = Counters()
        self._mount_status = MountStatus(
            self._change_log, options.store, options.mountpoint, None if options.read_only else options.unfinished
        )
        self._virtual = Virtual(self._status, journal, self._counters)
        self._operations: ReadingOperations
        self._sealer: Sealer | None = None
        self._finisher: Finisher | None = None
        self._supervisor: Supervisor | None = None
        if options.read_only:
            self._operations = ReadingOperations(store, self._virtual, self._counters)
            return
        reserve = default_reserve_nbytes(store.path) if options.reserve_nbytes is None else options.reserve_nbytes
        clear_spool(store)
        spool = Spool(store, reserve)
        self._operations = WritingOperations(
            store,
            self._change_log,
            self._virtual,
            self._counters,
            spool,
            linger_s=options.linger_s,
            takes_writes=options.takes_writes,
        )
        self._operations.enable_writeback_cache = options.writeback_cache
        self._sealer = Sealer(
            self._change_log, spool, options.unfinished, quiet_s=options.quiet_s, linger_s=options.linger_s
        )
        self._finisher = Finisher(
            self._change_log,
            spool,
            options.unfinished,
            quiet_s=options.quiet_s,
            is_written=self._operations.open_files.is_written,
            tell_sealed=self._sealer.sealed_more,
        )
        worker_options = ["--threads", str(options.threads), "--memory", str(options.ingest_memory_nbytes)]
        if options.optimize_after_s is not None:
            worker_options += ["--optimize-after", str(options.optimize_after_s)]
        self._supervisor = Supervisor(store, worker_options)
        store.reserve.fill()

    @property
    def _refused_copies(self) -> RefusedCopies | None:
        operations = self._operations
        return operations.refused_copies if isinstance(operations, TreeOperations) else None

    def run(self) -> None:
        mountpoint = str(self._options.mountpoint)
        arguments = {mount_option("fsname", self._store.path), "subtype=zipfs", "default_permissions"}
        arguments |= self._options.kernel_options
        if self._options.read_only:
            arguments.add("ro")
        if self._options.allow_other:
            arguments.add("allow_other")
        device.prepare(self._store.frames.buffers)
        try:
            pyfuse3.init(self._operations, mountpoint, arguments)
        except (RuntimeError, OSError) as error:
            raise MountFailed(self._store.path, mountpoint, _mount_reason(mountpoint, error)) from error
        try:
            trio.run(self._main)
        finally:
            if self._mounted:
                pyfuse3.close(unmount=True)
            self._change_log.close()
            self._operations.reader.close()
            log.info("unmounted %s", mountpoint)

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_on_signal)
            nursery.start_soon(self._tell_ready)
            if self._sealer is not None and self._finisher is not None and self._supervisor is not None:
                nursery.start_soon(self._sealer.watch)
                nursery.start_soon(self._finisher.watch)
                nursery.start_soon(self._supervisor.keep)
                nursery.start_soon(self._wake_worker)
            refused = self._refused_copies
            if refused is not None:
                nursery.start_soon(Sweeper(self._change_log, refused, self._options.mountpoint).watch)
            async with trio.open_nursery() as listeners:
                listeners.start_soon(self._invalidator.follow)
                await pyfuse3.main(_MIN_TASKS, _MAX_TASKS)
                listeners.cancel_scope.cancel()
            pyfuse3.close(unmount=True)  # now: the worker may take a while to end, and a mount must answer or be gone
            self._mounted = False
            nursery.cancel_scope.cancel()

    async def _tell_ready(self) -> None:
        await self._operations.ready.wait()
        tuned = points.tune(str(self._options.mountpoint))
        log.info(
            "mounted %s at %s%s",
            self._store.path,
            self._options.mountpoint,
            "" if tuned else "; the kernel keeps some of its small request limits",
        )
        for limit in process.remaining_limits():
            log.warning("%s: what needs more fails", limit)
        notify_systemd("READY=1")
        self._on_ready()
        if not self._options.in_front:
            self._journal.take_stderr()  # nobody reads it any more

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(*process.stopping_signals()) as signals:
            async for number in signals:
                log.info("stopping on %s", signal.Signals(number).name)
                notify_systemd("STOPPING=1")
                pyfuse3.terminate()

    async def _wake_worker(self) -> None:
        assert self._sealer is not None and self._supervisor is not None
        while True:
            await self._sealer.sealed.wait()
            self._sealer.sealed = trio.Event()
            await self._supervisor.wake()

    async def _status(self, who: Requester) -> bytes:
        supervisor = self._supervisor
        document = await self._mount_status.describe(
            {} if supervisor is None else supervisor.state,
            None if supervisor is None else supervisor.pid,
            [(handle.where.inode_id, handle.pid) for handle in self._operations.open_files.writers()],
        )
        refused = self._refused_copies
        document["hints"] = [] if refused is None else refused.hints()
        if not who.sees_everything:
            document = status_for_others(document, Sight(self._store.catalog, who).finds)
        return json.dumps(document, indent=1).encode() + b"\n"


def _mount_reason(mountpoint: str, error: BaseException) -> str:
    """Return why a mount failed: libfuse prints it and raises without; the usual reasons can be told from here."""
    if not os.path.exists("/dev/fuse"):
        return "this machine has no /dev/fuse; `zipfs cat` and `zipfs extract` read a store without a mount"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return (
            "you may not open /dev/fuse; root can let you (chmod 666 /dev/fuse, and a udev rule to keep it so). "
            "`zipfs cat` and `zipfs extract` read a store without a mount"
        )
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        return "you may not write to that directory, which fusermount3 asks for"
    return f"{error} (messages of fusermount3 above)"


def notify_systemd(message: str) -> None:
    """Tell systemd, if it started us. See sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send(message.encode())
    except OSError as error:
        log.warning("systemd was not told %s: %s", message, error)


def _return_freed_memory() -> None:
    """Have glibc take each decoded frame from the system and give it back when it is let go.

    By default it learns to keep blocks of that size in the heaps of its threads: 845 MiB were resident for a cache of
    512. Once it does not learn any more, it would return the end of a heap after each query, at 83 page faults a file
    that is opened: more than a third of the time that a small file takes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none, and do not keep them
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_NBYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_NBYTES)
