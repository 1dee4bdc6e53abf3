"""What `zipfs ingest` keeps of files and directories beside their names and contents."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.stores import import_path
from zipfs.host import TIME_AT_MOST_NS
from zipfs.library import Library
from zipfs.store.store import open_store


def test_a_date_that_cannot_be_kept_is_the_nearest_one(tmp_path: Path) -> None:
    """Files, directories and symlinks with it are stored as all others are."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "file").write_bytes(b"content")
    (top / "link").symlink_to("file")
    for path in (top / "file", top / "link", top):
        os.utime(path, (12_000_000_000, 12_000_000_000), follow_symlinks=False)
    with open_store(tmp_path / "store", create=True) as store:
        assert import_path(store, top, b"m").failures == []
    with Library(tmp_path / "store") as library:
        for name in (b"m", b"m/file", b"m/link"):
            found = library.attributes(library.node(name, follow=False))
            assert (found.atime_ns, found.mtime_ns) == (TIME_AT_MOST_NS, TIME_AT_MOST_NS)
        assert library.read("m/file") == b"content"


def test_directories_above_what_is_stored_inherit_the_group_of_a_set_group_id_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    team = tmp_path / "team"
    team.mkdir()
    os.chown(team, 0, 1234)
    team.chmod(0o2770)
    with open_store(tmp_path / "store", create=True) as store:
        import_path(store, team, b"team")
        import_path(store, tmp_path / "file", b"team/new/deep/file")
    with Library(tmp_path / "store") as library:
        for name in (b"team/new", b"team/new/deep"):
            found = library.attributes(library.node(name))
            assert (found.mode, found.uid, found.gid) == (0o2755, os.getuid(), 1234)
