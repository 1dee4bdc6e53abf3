"""`zipfs rm`."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import FILES, Run, assert_refused
from tests.support.stores import contents


def test_a_file_is_removed(run: Run, store: Path) -> None:
    assert run("rm", store, "m/config.json").code == 0
    assert contents(store) == {b"m/" + name: content for name, content in FILES.items() if name != b"config.json"}


def test_of_a_directory_it_names_the_option(run: Run, store: Path) -> None:
    assert_refused(run("rm", store, "m"), 3, "m", "is a directory", "zipfs rm -r")
    assert run("rm", "-r", store, "m").code == 0
    assert run("ls", store).out == b""


def test_a_path_has_to_be_named(run: Run, store: Path) -> None:
    done = run("rm", "-r", store)
    assert done.code == 2
    assert "Missing argument 'PATH'" in done.err
    assert contents(store) != {}
