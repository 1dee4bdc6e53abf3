"""The command line of `zipfs mount`; tests/mount has what a mount does."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tests.support.commands import Run
from zipfs.cli.commands.mount import mount_command
from zipfs.cli.mount_options import as_arguments


def parsed(*arguments: str) -> dict[str, object]:
    return mount_command.make_context("mount", [*arguments, "s", "m"]).params


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("ro", {"read_only": True}),
        ("allow_other,quiet=5", {"allow_other": True, "quiet_s": 5.0}),
        ("noatime,nodev,x-systemd.automount", {"kernel_options": ("noatime",)}),
        ("defaults,,nofail", {}),
        ("cache-size=1G,unfinished=*.wip,unfinished=none", {"cache_size": 1 << 30, "unfinished": ("*.wip", "none")}),
    ],
)
def test_options_as_fstab_writes_them(options: str, expected: dict[str, object]) -> None:
    assert parsed("-o", options) == parsed(f"-o{options}") == parsed() | expected


@pytest.mark.parametrize("options", ["nonsense", "quiet", "ro,allow_other=1", "daemon", "foreground", "help"])
def test_options_that_there_are_not(options: str) -> None:
    with pytest.raises(click.BadOptionUsage, match="no such option"):
        parsed("-o", options)


def test_what_is_passed_on_is_what_was_given() -> None:
    values = parsed("-o", "ro,noexec,quiet=5", "--unfinished", "*.wip", "--reserve", "2G")
    passed = as_arguments(mount_command, values, without=frozenset({"store", "mountpoint"}))
    assert parsed(*passed) == values


def test_a_reserve_as_large_as_the_disk(run: Run, tmp_path: Path) -> None:
    (tmp_path / "point").mkdir()
    done = run("mount", tmp_path / "store", tmp_path / "point", "--reserve", "500T")
    assert done.code == 2
    assert "leaves nothing to store in" in done.err
    assert not (tmp_path / "store").exists()
