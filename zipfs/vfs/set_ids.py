"""Set-id bits that a file loses to a change of it: what anybody writes does not run as the owner of what was there.

The kernel takes them from files of its own file systems by these rules, and leaves them to us where it can (see
`mount/device.py`); else it asks for the mode that is to be.
"""

from __future__ import annotations

import stat

from zipfs.store.objects.values import Inode, Kind
from zipfs.vfs.visibility import groups_of


def lost_set_ids(inode: Inode, uid: int, gid: int, pid: int) -> int:
    """Return the bits of a mode that go when a file changes its content or its owner by a request of that process."""
    if inode.kind is not Kind.FILE or not inode.mode & (stat.S_ISUID | stat.S_ISGID):
        return 0
    # Without the right to execute it, the bit once meant mandatory locking, and means nothing to who is in the group.
    by_group = inode.mode & stat.S_IXGRP or (uid != 0 and inode.gid not in groups_of(uid, gid, pid))
    return inode.mode & (stat.S_ISUID | (stat.S_ISGID if by_group else 0))
