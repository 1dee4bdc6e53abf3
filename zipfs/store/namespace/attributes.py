"""What a file, directory or symlink has beside its name and its content, taken and given as a whole.

Every copy of attributes, from the host, to it, and from one inode to another, is made here: what is kept in one place
and forgotten in the next would be lost on the way.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from zipfs.host import bounded_time_ns
from zipfs.store.catalog.queries import Catalog
from zipfs.store.catalog.writes import Transaction
from zipfs.store.objects.values import Inode

_KEPT = "user."
_COMPUTED = "user.zipfs."
"""What a mount tells of its files: copied, it would be wrong."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """`mode` holds permission bits with set-id and sticky bits; names of `xattrs` are whole ones ("user.a")."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    xattrs: Mapping[bytes, bytes]


def attributes_of(catalog: Catalog, inode: Inode) -> Attributes:
    return Attributes(inode.mode, inode.uid, inode.gid, inode.mtime_ns, shown_atime_ns(inode), catalog.xattrs(inode.id))


def shown_atime_ns(inode: Inode) -> int:
    return inode.mtime_ns if inode.atime_ns is None else inode.atime_ns


def with_attributes(inode: Inode, attributes: Attributes) -> Inode:
    """Return the inode with those of the attributes that its row holds. Pure."""
    return replace(
        inode,
        mode=attributes.mode,
        uid=attributes.uid,
        gid=attributes.gid,
        mtime_ns=attributes.mtime_ns,
        atime_ns=attributes.atime_ns,
    )


def put_attributes(txn: Transaction, inode: Inode, attributes: Attributes) -> Inode:
    """Put an inode with these attributes in place of all that it has; returns it. Nothing is written if it has them."""
    had = txn.catalog.xattrs(inode.id)
    changed = with_attributes(inode, attributes)
    if changed == inode and had == attributes.xattrs:
        return inode
    changed = replace(changed, ctime_ns=time.time_ns())
    txn.put_inode(changed)
    put_xattrs(txn, inode, attributes.xattrs)
    return changed


def put_xattrs(txn: Transaction, inode: Inode, xattrs: Mapping[bytes, bytes]) -> None:
    """Give an inode these extended attributes in place of those that it has."""
    had = txn.catalog.xattrs(inode.id)
    for name in had.keys() - xattrs.keys():
        txn.drop_xattr(inode.id, name)
    for name, value in xattrs.items():
        if had.get(name) != value:
            txn.put_xattr(inode.id, name, value)


def read_attributes(path: bytes | str | os.PathLike[str], info: os.stat_result) -> Attributes:
    """Read the attributes of a file of the host; `info` is what lstat(2) or stat(2) says of it. Raises OSError."""
    return Attributes(
        stat.S_IMODE(info.st_mode),
        info.st_uid,
        info.st_gid,
        bounded_time_ns(info.st_mtime_ns),
        bounded_time_ns(info.st_atime_ns),
        _read_xattrs(path, follow=not stat.S_ISLNK(info.st_mode)),
    )


def with_stat(attributes: Attributes, info: os.stat_result) -> Attributes:
    """Return the attributes with those that stat(2) says now in place of what it said before. Pure."""
    return replace(
        attributes,
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        mtime_ns=bounded_time_ns(info.st_mtime_ns),
        atime_ns=bounded_time_ns(info.st_atime_ns),
    )


def _read_xattrs(path: bytes | str | os.PathLike[str], *, follow: bool) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return found  # a file system without any
    for name in names:
        if name.startswith(_KEPT) and not name.startswith(_COMPUTED):
            try:
                found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=follow)
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed since
                    raise
    return found


def write_attributes(fd: int, attributes: Attributes, refused: Callable[[bytes], object]) -> None:
    """Give them to an open file or directory of the host; the owner only where we are root.

    They may come from a store of somebody else, and give no rights that it could only mean ill by: files get no
    set-user-id and set-group-id, which would be those of root where root writes them, and of extended attributes only
    those of users, for others grant capabilities. `refused` is called with the name of each extended attribute that its
    file system does not take. Raises OSError.
    """
    for name, value in attributes.xattrs.items():
        try:
            if name.startswith(os.fsencode(_KEPT)):
                os.setxattr(fd, name, value)
        except OSError:
            refused(name)
    if os.geteuid() == 0:
        os.fchown(fd, attributes.uid, attributes.gid)
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    os.fchmod(fd, attributes.mode if is_directory else attributes.mode & ~(stat.S_ISUID | stat.S_ISGID))
    os.utime(fd, ns=(attributes.atime_ns, attributes.mtime_ns))


def write_attributes_of_symlink(name: bytes, directory: int, attributes: Attributes) -> None:
    """Give attributes to a symlink in an open directory, which has an owner and times only. Raises OSError."""
    if os.geteuid() == 0:
        os.chown(name, attributes.uid, attributes.gid, dir_fd=directory, follow_symlinks=False)
    os.utime(name, ns=(attributes.atime_ns, attributes.mtime_ns), dir_fd=directory, follow_symlinks=False)
