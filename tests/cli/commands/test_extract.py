"""`zipfs extract`."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from tests.support.commands import FILES, Run, assert_refused
from tests.support.stores import write_tree


def test_what_goes_in_comes_out(run: Run, store: Path, source: Path, tmp_path: Path) -> None:
    for name, content in FILES.items():
        assert run("cat", store, b"m/" + name).out == content
    assert run("extract", store, "m", tmp_path / "out").code == 0
    assert subprocess.run(["diff", "-r", source, tmp_path / "out"], check=False).returncode == 0
    assert run("fsck", store, "--read-data").code == 0


def test_extract_brings_modes_times_links_and_attributes_back(run: Run, tmp_path: Path) -> None:
    source = write_tree(tmp_path / "m", FILES)
    os.chmod(source / "config.json", 0o700)
    os.setxattr(source / "config.json", "user.a", b"\0\xff")
    os.setxattr(source / "sub", "user.b", b"on a directory")
    os.utime(source / "config.json", ns=(1, 1_500_000_000_123_456_789))
    os.symlink("config.json", source / "link")
    os.symlink(b"\xff dangling", os.fsencode(source / "sub/dangling"))
    (source / "empty").mkdir(mode=0o700)
    (source / "closed").mkdir()
    (source / "closed/file").write_bytes(b"1")
    os.utime(source / "closed", ns=(1, 1_400_000_000_000_000_001))
    os.chmod(source / "closed", 0o500)
    os.utime(source, ns=(1, 1_300_000_000_000_000_003))
    store, out = tmp_path / "store", tmp_path / "out"
    assert run("ingest", store, source, "--as", "org/name").code == 0
    assert run("extract", store, "org/name", out).code == 0
    before, after = (sorted(path.rglob("*")) for path in (source, out))
    assert [path.relative_to(source) for path in before] == [path.relative_to(out) for path in after]
    for one, other in zip([source, *before], [out, *after], strict=True):
        wanted, got = one.lstat(), other.lstat()
        assert (wanted.st_mode, wanted.st_uid, wanted.st_size) == (got.st_mode, got.st_uid, got.st_size), one
        if stat.S_ISLNK(wanted.st_mode):
            assert os.readlink(one) == os.readlink(other)
        else:
            assert wanted.st_mtime_ns == got.st_mtime_ns, one
        if stat.S_ISREG(wanted.st_mode):
            assert one.read_bytes() == other.read_bytes()
            assert os.listxattr(one) == os.listxattr(other)
    assert os.getxattr(out / "config.json", "user.a") == b"\0\xff"


def test_extract_of_one_file_and_of_everything(run: Run, store: Path, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    assert run("extract", store, "m/config.json", tmp_path / "dir").code == 0
    assert (tmp_path / "dir/config.json").read_bytes() == FILES[b"config.json"]
    assert_refused(run("extract", store, "m/config.json", tmp_path / "dir"), 3, "config.json", "exists")
    assert run("extract", store, "", tmp_path / "all").code == 0
    assert (tmp_path / "all/m/config.json").read_bytes() == FILES[b"config.json"]
    assert run("extract", store, "/m/sub/", tmp_path / "sub").code == 0
    assert sorted(os.listdir(os.fsencode(tmp_path / "sub"))) == [b"empty", b"\xff\xfe"]
