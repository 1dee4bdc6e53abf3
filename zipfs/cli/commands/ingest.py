"""`zipfs ingest`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.options import MEMORY, AnyPath, unfinished_option
from zipfs.cli.render.messages import message, warning
from zipfs.cli.render.progress import byte_progress
from zipfs.cli.render.units import counted, ratio, size
from zipfs.host import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from zipfs.ingest.import_tree import Import
    from zipfs.ingest.pipeline import Pipeline
    from zipfs.store.disk.stopping import Stop
    from zipfs.store.namespace.unfinished import UnfinishedNames
    from zipfs.store.objects.values import BlobId
    from zipfs.store.store import Store


class _Shower:
    """Shows the progress of the pipeline on a terminal, and names what failed in any case."""

    def __init__(self, bar: Progress | None, total_nbytes: int | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("", total=None if total_nbytes is None else 2 * total_nbytes)
        self.files = 0
        self.nbytes = 0
        self.stored_nbytes = 0
        self.failures = 0

    def waiting(self, why: str) -> None:
        self._describe("waiting: " + why)

    def began(self, shown_path: str, nbytes: int) -> None:
        self._describe(printable(shown_path))

    def rebasing(self) -> None:
        self._describe("looking for better bases")

    def _describe(self, text: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)

    def advanced(self, nbytes: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=nbytes)

    def stored(self, shown_path: str, nbytes: int, stored_nbytes: int) -> None:
        self.files += 1
        self.nbytes += nbytes
        self.stored_nbytes += stored_nbytes

    def failed(self, shown_path: str, problem: str) -> None:
        self.failures += 1
        warning(printable(problem))


@click.command("ingest")
@click.argument("store", type=AnyPath())
@click.argument("paths", nargs=-1, type=AnyPath())
@click.option("--as", "name", default=None, help="Path in the store for the one PATH given.")
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads that compress.")
@click.option("--memory", type=MEMORY, default="256M", show_default=True, help="Memory for compressing.")
@unfinished_option
@click.option("--dry-run", is_flag=True, help="Only tell how each tensor would be stored, against what, and why.")
@click.option("--worker", is_flag=True, hidden=True)
@click.option("--optimize-after", "optimize_after_s", type=float, default=None, hidden=True)
def ingest_command(
    store: Path,
    paths: tuple[Path, ...],
    name: str | None,
    threads: int,
    memory: int,
    unfinished: tuple[str, ...],
    dry_run: bool,
    worker: bool,
    optimize_after_s: float | None,
) -> None:
    """Store PATHs (files or directories) in STORE, each under its own name, without a mount.

    The store is created if it is missing, and may be mounted meanwhile: the files appear there. A path that is stored
    already is replaced. Without PATHs, what waits in the spool is compressed. Ends with exit code 1 if anything was
    left out, and names it.

    \b
    Example:
      zipfs ingest /store ~/models/llama-ft --as meta/llama-ft
      zipfs ingest /store ~/models/llama-ft --dry-run
    """
    from zipfs.cli.locations import store_at
    from zipfs.ingest.import_tree import put_directories
    from zipfs.ingest.memory import keep_freed_memory
    from zipfs.ingest.pipeline import Pipeline
    from zipfs.store.disk.stopping import Stop, stopping_on_signals
    from zipfs.store.namespace.unfinished import UnfinishedNames
    from zipfs.store.store import open_store

    if name is not None and len(paths) != 1:
        raise click.UsageError("--as needs exactly one PATH")
    keep_freed_memory()
    if worker:
        _work(store, threads, memory, optimize_after_s)
        return
    names = UnfinishedNames.from_options(unfinished)
    store = store_at(store)
    stop = Stop()
    if dry_run:
        with stopping_on_signals(stop):
            _plan(store, paths, name, names, threads, memory, stop)
        return
    with (
        stopping_on_signals(stop),
        open_store(store, create=bool(paths), cache_nbytes=_cache_nbytes(memory), stop=stop) as opened,
        byte_progress() as bar,
    ):
        found = [_find(opened, path, name, names) for path in paths]
        total = sum(item.nbytes for item in found) if paths else None
        shower = _Shower(bar, total)
        pipeline = Pipeline(opened, shower, threads=threads)
        try:
            if paths:
                pipeline.run([source for item in found for source in item.sources])
                for item in found:
                    put_directories(opened, item)
                    for problem in item.failures:
                        shower.failed("", problem)
            else:
                _drain(opened, pipeline, names, shower)
            shower.rebasing()
            shower.stored_nbytes -= pipeline.rebase().saved_nbytes
        finally:
            pipeline.close()
    left_out = _name_left_out(found)
    stored, raw = shower.stored_nbytes, shower.nbytes
    message(f"stored {counted(shower.files, 'file')}: {size(raw)} in {size(stored)} ({ratio(stored, raw)})")
    if shower.failures or left_out:
        sys.exit(1)


def _plan(
    store: Path,
    paths: tuple[Path, ...],
    name: str | None,
    names: UnfinishedNames,
    threads: int,
    memory: int,
    stop: Stop,
) -> None:
    """Tell how PATHs, or what waits in the spool, would be stored. A missing store is taken for an empty one."""
    from zipfs.cli.render.dry_run import dry_run_total, planned_file_text
    from zipfs.cli.render.table import terminal_width
    from zipfs.ingest.dry_run import DryRun
    from zipfs.ingest.queue import queued
    from zipfs.inspect.tensor_names import TensorNames
    from zipfs.store.store import open_store

    with ExitStack() as stack:
        if paths and (not store.exists() or (store.is_dir() and not any(store.iterdir()))):
            store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
            open_store(store, create=True).close()
        opened = stack.enter_context(open_store(store, read_only=True, cache_nbytes=_cache_nbytes(memory), stop=stop))
        found = [_find(opened, path, name, names) for path in paths]
        shower = _Shower(None, None)
        run = stack.enter_context(closing(DryRun(opened, shower, threads=threads)))
        where = TensorNames(opened)

        def origin(blob_id: BlobId) -> tuple[str, str | None]:
            planned = run.planned(blob_id)
            if planned is not None:
                return planned.source.shown, planned.span.name
            use = opened.catalog.first_uses([blob_id]).get(blob_id)
            if use is None:
                return "a file that was removed", None
            path, tensor = where.at(*use)
            return os.fsdecode(path), tensor

        sources = [source for item in found for source in item.sources] if paths else queued(opened)
        files = nbytes = predicted_nbytes = unpredicted_nbytes = 0
        for planned in run.plan(sources):
            files, nbytes = files + 1, nbytes + planned.nbytes
            predicted_nbytes += planned.plan.predicted_nbytes
            unpredicted_nbytes += planned.plan.unpredicted_nbytes
            for line in planned_file_text(planned, origin, terminal_width()):
                click.echo(line)
        for problem in (problem for item in found for problem in item.failures):
            shower.failed("", problem)
    message(dry_run_total(files, nbytes, predicted_nbytes, unpredicted_nbytes))
    if _name_left_out(found) or shower.failures:
        sys.exit(1)


def _name_left_out(found: Sequence[Import]) -> bool:
    """Name what was not stored because of what it is; return whether there was any."""
    unfinished = [path for item in found for path in item.unfinished]
    no_files = [path for item in found for path in item.no_files]
    for path in (path for item in found for path in item.stores):
        warning(f"left out {printable(str(path))}: it is the store itself")
    for path in unfinished:
        warning(f"left out {printable(str(path))}: its name says that it is not finished")
    for path in no_files:
        warning(f"left out {printable(str(path))}: neither a file, a directory nor a symlink")
    if unfinished:
        warning("with `--unfinished none` such names are stored as well")
    return bool(unfinished or no_files)


_CODING_NBYTES = 64 << 20
"""What the frames in work take, whatever the size of the model; the rest of --memory keeps decoded frames of bases."""


def _cache_nbytes(memory_nbytes: int) -> int:
    return max(8 << 20, memory_nbytes - _CODING_NBYTES)


def _find(store: Store, path: Path, name: str | None, names: UnfinishedNames) -> Import:
    from zipfs.ingest.import_tree import find, served_name

    return find(store, path, served_name(path, name), names)


def _drain(store: Store, pipeline: Pipeline, names: UnfinishedNames, shower: _Shower) -> None:
    from zipfs.ingest.queue import drain, seal_everything

    lock = store.lock("mount")
    if lock.try_acquire():
        try:
            seal_everything(store, names, shower.failed)
        finally:
            lock.release()
    drain(store, pipeline)


def _work(store: Path, threads: int, memory: int, optimize_after_s: float | None) -> None:
    """Compress what is queued, in the process that a mount starts."""
    from zipfs.ingest import worker
    from zipfs.store.store import open_store

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker.log_to_daemon()
    with open_store(store, cache_nbytes=_cache_nbytes(memory)) as opened:
        worker.run(opened, threads, optimize_after_s)
