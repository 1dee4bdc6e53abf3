"""`zipfs umount` of what is no mount; tests/mount has those of a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import Run, assert_refused


@pytest.mark.parametrize("options", [[], ["--lazy"]])
def test_what_is_not_mounted(options: list[str], run: Run, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        assert_refused(run("umount", *options, path), 6, str(path), "no ZipFS store is mounted there")
