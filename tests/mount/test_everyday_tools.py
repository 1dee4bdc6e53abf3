"""cp, rsync, mv, rm, tar, find, du, touch, chmod, setfattr and their like, as people use them on a mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Mount, noise, poll, poll_equal, run, sha256

pytestmark = [
    pytest.mark.mount,
    pytest.mark.expected_log("files were refused here"),
]

_MTIME_NS = 1_234_567_890_123_456_789
_DIRECTORY_MTIME_NS = 1_111_111_111_000_000_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with everything that `cp -a` keeps."""
    top = tmp_path / "source"
    (top / "onnx").mkdir(parents=True)
    (top / "config.json").write_text('{"hidden_size": 384}\n')
    (top / "weights.bin").write_bytes(noise(300_001, 1))
    (top / "onnx" / "zeros.bin").write_bytes(bytes(2 << 20))
    (top / "empty").touch()
    os.link(top / "weights.bin", top / "onnx" / "same.bin")
    (top / "link").symlink_to("onnx/zeros.bin")
    (top / "dangling").symlink_to("nowhere/at all")
    (top / "config.json").chmod(0o640)
    (top / "weights.bin").chmod(0o444)
    os.setxattr(top / "config.json", "user.origin", b"https://example.org/\x00\xff")
    os.chown(top / "config.json", 1234, 4321)
    for path in top.rglob("*"):
        if not path.is_symlink() and path.is_file():
            os.utime(path, ns=(_MTIME_NS, _MTIME_NS))
    (top / "onnx").chmod(0o750)
    for directory in (top / "onnx", top):
        os.utime(directory, ns=(_DIRECTORY_MTIME_NS, _DIRECTORY_MTIME_NS))
    return top


def _listed(top: Path) -> Iterator[tuple[str, object]]:
    """What a copy has to keep of a tree."""
    for path in sorted([top, *top.rglob("*")]):
        info = path.lstat()
        kept: list[object] = [stat.filemode(info.st_mode), info.st_uid, info.st_gid]
        if path.is_symlink():
            kept.append(os.readlink(path))
        else:
            kept.append(info.st_mtime_ns)
            kept.append({name: os.getxattr(path, name) for name in os.listxattr(path)})
            if path.is_file():
                kept += [info.st_nlink, info.st_size, path.read_bytes()]
        yield os.fspath(path.relative_to(top)), kept


def test_cp_r_is_served_and_compressed(shared: Mount, model: Path) -> None:
    run("cp", "-r", model, shared.ingest / "plain")
    shared.wait()
    run("diff", "-r", "--no-dereference", model, shared.point / "plain")


def test_cp_a_keeps_everything_before_and_after_compression(shared: Mount, model: Path) -> None:
    expected = list(_listed(model))
    run("cp", "-a", model, shared.ingest / "kept")
    assert list(_listed(shared.ingest / "kept")) == expected
    shared.served("kept/onnx/zeros.bin")
    poll_equal(lambda: list(_listed(shared.point / "kept")), expected)
    shared.wait()
    assert list(_listed(shared.point / "kept")) == expected


def test_cp_a_survives_a_remount(mount: Mount, model: Path) -> None:
    run("cp", "-a", model, mount.ingest / "kept")
    mount.wait()
    mount.remount()
    assert list(_listed(mount.point / "kept")) == list(_listed(model))
    mount.umount()
    mount.fsck()


def test_rsync_moves_nothing_the_second_time(shared: Mount, model: Path) -> None:
    first = run("rsync", "-aHX", "--stats", f"{model}/", f"{shared.ingest}/synced/")
    assert "Number of regular files transferred: 0" not in first
    second = run("rsync", "-aHX", "--stats", f"{model}/", f"{shared.ingest}/synced/")
    assert "Number of regular files transferred: 0" in second
    shared.wait()
    third = run("rsync", "-aHX", "--stats", f"{model}/", f"{shared.ingest}/synced/")
    assert "Number of regular files transferred: 0" in third
    poll_equal(lambda: list(_listed(shared.point / "synced")), list(_listed(model)))


def test_rsync_updates_a_file_that_changed(shared: Mount, model: Path) -> None:
    run("rsync", "-a", f"{model}/", f"{shared.ingest}/updated/")
    served = shared.stored("updated/weights.bin")
    (model / "weights.bin").chmod(0o644)
    (model / "weights.bin").write_bytes(noise(300_001, 2))
    run("rsync", "-a", "--inplace", "--no-whole-file", f"{model}/", f"{shared.ingest}/updated/")
    poll(lambda: sha256(served) == sha256(model / "weights.bin"), what="the new content")
    (model / "weights.bin").write_bytes(noise(123, 3))
    run("rsync", "-a", f"{model}/", f"{shared.ingest}/updated/")
    poll(lambda: sha256(served) == sha256(model / "weights.bin"), what="the newer content")


def test_mv_and_rm_in_the_served_tree(shared: Mount, model: Path) -> None:
    run("cp", "-r", model, shared.ingest / "old")
    shared.wait()
    top = shared.point
    run("mkdir", "-p", top / "org" / "team")
    run("mv", top / "old", top / "org" / "team" / "new")
    assert not (top / "old").exists()
    run("diff", "-r", "--no-dereference", model, top / "org" / "team" / "new")
    run("mv", top / "org/team/new/onnx/zeros.bin", top / "org/zeros.bin")
    assert (top / "org/zeros.bin").read_bytes() == bytes(2 << 20)
    assert not (top / "org/team/new/onnx/zeros.bin").exists()
    run("rm", "-r", top / "org")
    assert not (top / "org").exists()
    assert "org" not in os.listdir(top)


def test_mv_replaces_a_file(shared: Mount) -> None:
    run("mkdir", shared.ingest / "replace")
    for name in ("one", "two"):
        (shared.ingest / "replace" / name).write_text(name)
    one, two = shared.stored("replace/one"), shared.stored("replace/two")
    with open(two, "rb") as reader:
        os.rename(one, two)
        assert reader.read() == b"two"
        assert os.fstat(reader.fileno()).st_size == 3
    assert two.read_text() == "one"
    assert os.listdir(two.parent) == ["two"]


def test_removed_models_leave_their_neighbours_alone(shared: Mount, model: Path) -> None:
    """Both share their bytes."""
    for name in ("goes", "stays"):
        run("cp", "-r", model, shared.ingest / name)
    shared.wait()
    run("rm", "-r", shared.point / "goes")
    run("diff", "-r", "--no-dereference", model, shared.point / "stays")


def test_tar_in_and_out(shared: Mount, model: Path, tmp_path: Path) -> None:
    run("mkdir", shared.ingest / "tarred")
    run("tar", "-C", model, "-cf", tmp_path / "in.tar", ".")
    run("tar", "-C", shared.ingest / "tarred", "-xpf", tmp_path / "in.tar")
    shared.wait()
    run("tar", "-C", shared.point / "tarred", "-cf", tmp_path / "out.tar", ".")
    (tmp_path / "out").mkdir()
    run("tar", "-C", tmp_path / "out", "-xpf", tmp_path / "out.tar")
    run("diff", "-r", "--no-dereference", model, tmp_path / "out")
    assert (tmp_path / "out" / "weights.bin").samefile(tmp_path / "out" / "onnx" / "same.bin")


def test_find_and_sha256sum(shared: Mount, model: Path) -> None:
    run("cp", "-r", model, shared.ingest / "found")
    shared.served("found/onnx/zeros.bin")
    shared.wait()
    listed = run("find", ".", "-printf", "%P %y %s\\n", cwd=model).splitlines()
    directories = {line.split()[0] for line in listed if " d " in line}
    here = run("find", ".", "-printf", "%P %y %s\\n", cwd=shared.point / "found").splitlines()
    assert sorted(line for line in here if " d " not in line) == sorted(line for line in listed if " d " not in line)
    assert {line.split()[0] for line in here if " d " in line} == directories
    sums = run("sh", "-c", "find . -type f -exec sha256sum {} + | sort", cwd=model)
    assert run("sh", "-c", "find . -type f -exec sha256sum {} + | sort", cwd=shared.point / "found") == sums


def test_du_shows_what_is_stored_and_apparent_size_what_it_is(shared: Mount) -> None:
    run("mkdir", shared.ingest / "sizes")
    (shared.ingest / "sizes" / "zeros").write_bytes(bytes(4 << 20))
    (shared.ingest / "sizes" / "noise").write_bytes(noise(1 << 20, 5))
    served = shared.stored("sizes/zeros").parent
    shared.stored("sizes/noise")
    poll(lambda: (served / "zeros").stat().st_blocks < 1000, what="blocks of the stored form")
    assert int(run("du", "-s", "--block-size=1", served).split()[0]) < (1 << 20) + (64 << 10)
    assert int(run("du", "-s", "--block-size=1", "--apparent-size", served).split()[0]) >= 5 << 20
    noisy = (served / "noise").stat()
    assert 1 << 20 <= noisy.st_blocks * 512 < (1 << 20) + 8192


def test_df_is_that_of_the_disk_of_the_store(shared: Mount) -> None:
    here, there = os.statvfs(shared.point), os.statvfs(shared.store)
    assert here.f_blocks * here.f_frsize == there.f_blocks * there.f_frsize
    assert here.f_namemax == 255
    assert str(shared.point) in run("df", shared.point)


def test_stat_fields(shared: Mount) -> None:
    path = shared.ingest / "fields"
    path.write_bytes(noise(1000, 6))
    os.link(path, shared.ingest / "fields-too")
    assert path.stat().st_nlink == 2
    served = shared.served("fields-too")
    shared.served("fields")
    poll(lambda: served.stat().st_nlink == 2, what="both links")
    assert served.samefile(shared.point / "fields")
    assert stat.S_ISREG(served.stat().st_mode)
    os.unlink(served)
    assert (shared.point / "fields").stat().st_nlink == 1
    assert (shared.point / "fields").read_bytes() == noise(1000, 6)


def test_links_in_the_served_tree(shared: Mount) -> None:
    (shared.ingest / "linked").write_bytes(b"linked")
    served = shared.stored("linked")
    run("ln", served, shared.point / "hard")
    run("ln", "-s", "hard", shared.point / "soft")
    assert (shared.point / "hard").stat().st_nlink == served.stat().st_nlink == 2
    assert (shared.point / "soft").read_bytes() == b"linked"
    assert os.readlink(shared.point / "soft") == "hard"
    run("rm", served)
    assert (shared.point / "soft").read_bytes() == b"linked"


def test_links_do_not_cross_into_ingest(shared: Mount) -> None:
    (shared.ingest / "near").write_bytes(b"near")
    served = shared.served("near")
    for source, target in ((served, shared.ingest / "far"), (shared.ingest / "near", shared.point / "far")):
        with pytest.raises(OSError, match="Invalid cross-device link"):
            os.link(source, target)
        with pytest.raises(OSError, match="Invalid cross-device link"):
            os.rename(source, target)


def test_mv_out_of_ingest_copies(shared: Mount) -> None:
    """EXDEV makes mv copy: the new name is of a file of its own, and what was served stays."""
    (shared.ingest / "stuck").write_bytes(b"stuck")
    shared.served("stuck")
    run("mv", shared.ingest / "stuck", shared.point / "unstuck")
    assert (shared.point / "unstuck").read_bytes() == b"stuck"
    assert (shared.point / "stuck").read_bytes() == b"stuck"


@pytest.mark.parametrize("side", ["ingest", "served"])
def test_attributes_can_be_changed_late(shared: Mount, side: str) -> None:
    """After the copy, or long after it was stored."""
    name = f"late-{side}"
    (shared.ingest / name).write_bytes(b"late")
    path = shared.ingest / name if side == "ingest" else shared.stored(name)
    run("touch", "-d", "2001-02-03 04:05:06.789 UTC", path)
    run("chmod", "600", path)
    run("chown", "77:88", path)
    run("setfattr", "-n", "user.note", "-v", "hello", path)
    served = shared.stored(name)

    def as_asked() -> bool:
        info = served.stat()
        return (info.st_mtime_ns, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (
            981_173_106_789_000_000,
            0o600,
            77,
            88,
        )

    poll(as_asked, what="the attributes")
    assert run("getfattr", "--only-values", "-n", "user.note", served) == "hello"
    run("setfattr", "-x", "user.note", path)
    assert os.listxattr(served) == []
    assert served.read_bytes() == b"late"


def test_touch_makes_and_dates_an_empty_file(shared: Mount) -> None:
    run("touch", "-d", "1999-12-31 UTC", shared.ingest / "touched")
    served = shared.served("touched")
    assert served.stat().st_size == 0
    poll(lambda: served.stat().st_mtime_ns == 946_598_400_000_000_000, what="the date")


def test_xattrs_of_ours_tell_what_became_of_a_file(shared: Mount) -> None:
    data = noise(100_000, 8)
    (shared.ingest / "first").write_bytes(data)
    assert os.getxattr(shared.ingest / "first", "user.zipfs.state") == b"open"
    first = shared.stored("first")
    assert int(os.getxattr(first, "user.zipfs.stored")) >= len(data)
    assert float(os.getxattr(first, "user.zipfs.ratio")) >= 1.0
    assert os.getxattr(first, "user.zipfs.bases") == b""
    assert os.getxattr(first, "user.zipfs.sha256").decode() == sha256(first)
    (shared.ingest / "again").write_bytes(data)
    again = shared.stored("again")
    assert os.getxattr(again, "user.zipfs.stored") == b"0"
    assert os.getxattr(again, "user.zipfs.ratio") == b"0.0000"
    with pytest.raises(OSError, match="No data"):
        os.getxattr(again, "user.zipfs.nonsense")
    with pytest.raises(PermissionError):
        os.setxattr(again, "user.zipfs.state", b"open")


def test_attributes_that_mean_nothing_here_are_refused(shared: Mount) -> None:
    path = shared.ingest / "labels"
    path.write_bytes(b"labels")
    with pytest.raises(OSError, match="not supported"):
        os.setxattr(path, "security.selinux", b"x")
    with pytest.raises(OSError, match="No data"):
        os.removexattr(path, "user.absent")
    os.setxattr(path, "user.once", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.once", b"2", os.XATTR_CREATE)
    with pytest.raises(OSError, match="No data"):
        os.setxattr(path, "user.never", b"2", os.XATTR_REPLACE)
