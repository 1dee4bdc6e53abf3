"""Which store and which path an argument means, from the table of mounts alone; tests/mount has real mounts."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from tests.support.stores import make_store
from zipfs.cli.locations import Location, locate, locate_one, store_at
from zipfs.errors import PathError
from zipfs.mount import points
from zipfs.mount.points import SUBTYPE, MountPoint


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path, {b"m/a": b"1"})


@pytest.fixture
def point(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the table of mounts lists as a mount of the store, and another that is a part of it."""
    point, part = tmp_path / "point", tmp_path / "part"
    listed = [
        MountPoint("/", "8:1", "/", "ext4", "/dev/vda"),
        MountPoint(str(point), "0:50", "/", SUBTYPE, str(store)),
        MountPoint(str(part), "0:50", "/org", SUBTYPE, str(store)),
        MountPoint(str(point / "over"), "0:60", "/", "tmpfs", "tmpfs"),
    ]
    monkeypatch.setattr(points, "mount_points", lambda: iter(listed))
    for path in (point, part):
        path.mkdir()
    return point


@pytest.mark.parametrize(
    ("below", "path", "expected", "inside"),
    [
        ("", "", "", False),
        ("", "m/a", "m/a", False),
        ("m", "", "m", True),
        ("m", "a", "m/a", True),
        ("ingest", "", "", False),
        ("ingest/m", "a", "m/a", True),
        ("m/../m/./a", "", "m/a", True),
    ],
)
def test_a_path_in_a_mount(below: str, path: str, expected: str, inside: bool, point: Path, store: Path) -> None:
    assert locate(point / below, path) == Location(store, expected, inside=inside)


def test_a_part_that_is_bound_elsewhere(point: Path, store: Path, tmp_path: Path) -> None:
    assert locate(tmp_path / "part/m") == Location(store, "org/m", inside=True)


def test_a_symlink_leads_into_a_mount(point: Path, store: Path, tmp_path: Path) -> None:
    os.symlink(point / "m", tmp_path / "link")
    os.symlink("loop", tmp_path / "loop")
    assert locate(tmp_path / "link", "a") == Location(store, "m/a", inside=True)
    assert locate(tmp_path / "loop") == Location(tmp_path / "loop", "")


def test_what_is_in_no_mount_is_taken_for_a_store(point: Path, store: Path, tmp_path: Path) -> None:
    for path in (store, tmp_path / "missing", point / "over" / "m"):
        assert locate(path, "m") == Location(path, "m")


def test_a_command_for_a_path_needs_one(point: Path, store: Path) -> None:
    assert locate_one(point / "m", None).path == "m"
    assert locate_one(store, "").path == ""
    for where in (store, point):
        with pytest.raises(click.UsageError, match="Missing argument 'PATH'"):
            locate_one(where, None)


def test_a_command_for_a_store_takes_its_mount_point_and_no_path_in_it(point: Path, store: Path) -> None:
    assert store_at(point) == store_at(store) == store
    with pytest.raises(PathError, match="is inside a mount"):
        store_at(point / "m")
