"""What the kernel may ask of a mount at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import REPOSITORY, Mount, run
from zipfs.mount import points

pytestmark = [pytest.mark.mount, pytest.mark.skipif(os.geteuid() != 0, reason="only root may set them")]

_WITHOUT_CONTROLS = """
mount --make-rprivate /sys || exit 1
while umount -l /sys/fs/fuse/connections 2>/dev/null; do :; done
"$PYTHON" -m zipfs.cli mount "$1" "$2" >/dev/null || exit 1
number=$(mountpoint -d "$2") || exit 1
controls=/sys/fs/fuse/connections/${number#*:}
cat "/sys/class/bdi/$number/read_ahead_kb" "$controls/max_background" "$controls/congestion_threshold"
"$PYTHON" -m zipfs.cli umount "$2" >/dev/null
"""
"""In a namespace, because other mounts may be in need of what is unmounted. Of a chroot, only `/sys` can be private."""


def test_a_mount_raises_them_where_the_controls_are_not_there_yet(mounts: Callable[..., Mount]) -> None:
    mount = mounts()
    environment = {**os.environ, "PYTHON": sys.executable}
    shell = ("sh", "-c", _WITHOUT_CONTROLS, "sh", mount.store, mount.point)
    found = run("unshare", "--mount", "--propagation=unchanged", *shell, cwd=REPOSITORY, env=environment)
    expected = [points.READ_AHEAD_KIB, points.MAX_BACKGROUND, points.CONGESTION_THRESHOLD]
    assert [int(line) for line in found.split()] == expected


def test_what_cannot_be_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: Mount) -> None:
    assert points.tune(str(mount.point))
    monkeypatch.setattr(points, "_CONTROLS", tmp_path / "controls")
    assert not points.tune(str(mount.point))
    assert not points.tune(str(tmp_path))
