"""Owns the import of files and directories of the host, without a mount and without a copy in the spool."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zipfs.errors import IsADirectory, NameTooLong, NotADirectory, PathError
from zipfs.ingest.queue import put_stored
from zipfs.ingest.source import Source, SourceError, StoredFile
from zipfs.store.catalog.writes import Transaction
from zipfs.store.maintenance.remove import free_spool
from zipfs.store.namespace import tree
from zipfs.store.namespace.attributes import Attributes, put_attributes, read_attributes, with_stat
from zipfs.store.namespace.lifecycle import Event
from zipfs.store.namespace.unfinished import STANDARD, UnfinishedNames
from zipfs.store.objects.values import NAME_NBYTES_AT_MOST, ROOT, Inode, Kind
from zipfs.store.store import Store


@dataclass(slots=True)
class Import:
    """What was found below a path that was named. `sources` go to the pipeline.

    `unfinished` holds what was left out because of its name, `no_files` what is neither file, directory nor symlink,
    `stores` the store itself where that lies there, and `failures` a message for each name that could not be stored.
    """

    sources: list[Source] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    no_files: list[Path] = field(default_factory=list)
    stores: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    directories: list[tuple[bytes, Attributes]] = field(default_factory=list)
    symlinks: list[tuple[Path, bytes, os.stat_result]] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(source.nbytes for source in self.sources)


def find(store: Store, path: Path, served: bytes, names: UnfinishedNames = STANDARD) -> Import:
    """Look through `path`, which is to be served at `served`; nothing is written.

    What is unfinished by its name is left out, as are sockets, pipes and devices. What cannot be read, or goes while it
    is looked for, is noted, and the others go on. Raises PathError where the path itself cannot be stored, Stopped,
    StoreBusy, NoSpace.
    """
    found = Import()
    try:
        named = path.stat()
    except OSError as error:
        raise PathError(path, f"cannot be read: {error.strerror}") from error
    if _lies_in(path, store.path):
        raise PathError(path, "is, or lies in, the store that it would be put into")
    _check_place(store, served, is_directory=stat.S_ISDIR(named.st_mode))
    for item, at, info in _walk(path, served, names, named, found, store.path.stat()):
        store.stop.check()
        try:
            if _is_unfinished(item, at, info, names):
                found.unfinished.append(item)
            elif stat.S_ISREG(info.st_mode):
                found.sources.append(_source(store, item, at, info))
            elif stat.S_ISDIR(info.st_mode):
                found.directories.append((at, read_attributes(item, info)))
            elif stat.S_ISLNK(info.st_mode):
                found.symlinks.append((item, at, info))
            else:
                found.no_files.append(item)
        except OSError as error:
            found.failures.append(_cannot_be_read(item, error))
    return found


def _is_unfinished(item: Path, at: bytes, info: os.stat_result, names: UnfinishedNames) -> bool:
    return names.covers(
        at,
        is_directory=stat.S_ISDIR(info.st_mode),
        is_empty=not info.st_size,
        stands_beside=lambda name: os.path.lexists(os.path.join(os.path.dirname(os.fsencode(item)), name)),
    )


def _check_place(store: Store, served: bytes, *, is_directory: bool) -> None:
    """Raises PathError where nothing can be served at all."""
    inode: Inode | None = store.catalog.inode(ROOT)
    for name in tree.components(served):
        if len(name) > NAME_NBYTES_AT_MOST:
            raise NameTooLong(name)
        if inode is not None:
            if not inode.is_directory:
                raise NotADirectory(served)
            entry = store.catalog.entry(inode.id, name)
            inode = None if entry is None else store.catalog.inode(entry.inode_id)
    if inode is not None and inode.is_directory != is_directory:
        raise NotADirectory(served) if is_directory else IsADirectory(served)


def _lies_in(path: Path, directory: Path) -> bool:
    return any(os.path.samefile(above, directory) for above in (path.resolve(), *path.resolve().parents))


def _cannot_be_read(item: Path, error: OSError) -> str:
    return str(SourceError(item, f"cannot be read: {error.strerror}"))


def _walk(
    path: Path,
    served: bytes,
    names: UnfinishedNames,
    named: os.stat_result,
    found: Import,
    store: os.stat_result,
) -> Iterator[tuple[Path, bytes, os.stat_result]]:
    """Yield parents first; directories are not followed through symlinks, but the path that was named is.

    The store, by whatever name, is left out, and so is what cannot be read; both are noted in `found`.
    """
    pending = [(path, served, named)]
    while pending:
        item, at, info = pending.pop()
        if (info.st_dev, info.st_ino) == (store.st_dev, store.st_ino):
            found.stores.append(item)
            continue
        yield item, at, info
        if not stat.S_ISDIR(info.st_mode) or _is_unfinished(item, at, info, names):
            continue
        try:
            inside = sorted(os.listdir(os.fsencode(item)), reverse=True)
        except OSError as error:
            if item == path:
                raise PathError(path, f"cannot be read: {error.strerror}") from error
            found.failures.append(_cannot_be_read(item, error))
            continue
        for name in inside:
            child = item / os.fsdecode(name)
            try:
                pending.append((child, at + b"/" + name, child.lstat()))
            except OSError as error:
                found.failures.append(_cannot_be_read(child, error))


def put_directories(store: Store, found: Import) -> None:
    """Make symlinks and empty directories, and give all directories their attributes; the files have to be in."""
    for item, at, info in found.symlinks:
        store.stop.check()
        try:
            _put_symlink(store, item, at, info)
        except OSError as error:
            found.failures.append(_cannot_be_read(item, error))
        except PathError as error:
            found.failures.append(str(SourceError(item, f"cannot be stored: {error}")))
    with store.transaction() as txn:
        for at, attributes in reversed(found.directories):
            try:
                directory = txn.catalog.inode(tree.make_directories(txn, at))
            except PathError as error:
                found.failures.append(f"{os.fsdecode(at)}: cannot be a directory: {error}")
                continue
            put_attributes(txn, directory, attributes)


def _put_symlink(store: Store, item: Path, at: bytes, info: os.stat_result) -> None:
    target = os.readlink(os.fsencode(item))
    attributes = read_attributes(item, info)
    with store.transaction() as txn:
        inode = tree.new_inode(txn, Kind.SYMLINK, Event.MAKE_SERVED, 0o777, info.st_uid, info.st_gid, target)
        gone = _replace(txn, at, put_attributes(txn, inode, attributes))
    free_spool(store, gone)


def _source(store: Store, item: Path, at: bytes, info: os.stat_result) -> Source:
    attributes = read_attributes(item, info)
    gone: list[Inode] = []

    def commit(txn: Transaction, stored: StoredFile) -> None:
        inode = tree.new_inode(txn, Kind.FILE, Event.IMPORT, info.st_mode, info.st_uid, info.st_gid)
        # Of the content that was read: its path may have led to another file before.
        own = attributes if source.info is None else with_stat(attributes, source.info)
        put_stored(txn, put_attributes(txn, inode, own), stored)
        gone.extend(_replace(txn, at, txn.catalog.inode(inode.id)))

    source = Source(item, os.fspath(item), os.path.basename(at), info.st_size, commit, lambda: free_spool(store, gone))
    return source


def _replace(txn: Transaction, at: bytes, inode: Inode) -> list[Inode]:
    """Serve an inode at a path, in place of the file that may be there. Returns what lost its last name."""
    *parents, name = tree.components(at)
    parent_id = tree.make_directories(txn, b"/".join(parents))
    gone: Inode | None = None
    existing = txn.catalog.entry(parent_id, name)
    if existing is not None:
        if txn.catalog.inode(existing.inode_id).is_directory:
            raise IsADirectory(at)
        tree.forget_lingering(txn, parent_id, name)
        gone = tree.unlink(txn, parent_id, name)
    tree.link(txn, parent_id, name, inode, Event.SERVE)
    txn.put_inode(inode)
    return [gone] if gone is not None else []


def served_name(path: Path, name: str | None) -> bytes:
    """Return where a path of the host is served: under `name`, or its own last component. Raises PathError."""
    chosen = os.fsencode(name) if name is not None else os.path.basename(os.fsencode(path.resolve()))
    parts = tree.components(chosen)
    if not parts:
        raise PathError(path, "has no name to be served under; give one with --as")
    if parts[0] in tree.RESERVED_AT_ROOT:
        raise PathError(
            path, f"cannot be served as {os.fsdecode(chosen)}: a mount uses that name; give another with --as"
        )
    return b"/".join(parts)
