"""How try_clients judges what clients saw on a plain disk and on a mount."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tools.clients.__main__ import Row, afterwards, print_markdown, rows_of, text
from tools.clients.case import CASES, INGEST_ONLY, TREE_ONLY, is_run
from tools.clients.side import (
    Note,
    Place,
    Side,
    beside,
    difference,
    everything,
    excluding,
    is_told_to_end,
    printed,
    tree,
)


def _seen(*notes: Note, error: str = "") -> dict[str, Any]:
    return {"notes": [asdict(note) for note in notes], "error": error}


def test_the_same_on_both_sides_is_right() -> None:
    (row,) = rows_of("c", _seen(Note("files", ["a", "b"])), _seen(Note("files", ["a", "b"])))
    assert row == Row("c", "files", "a b", "a b", is_right=True)


def test_a_difference_is_wrong_unless_that_is_promised() -> None:
    (row,) = rows_of("c", _seen(Note("files", ["a"])), _seen(Note("files", ["a", "b"])))
    assert not row.is_right
    (row,) = rows_of("c", _seen(Note("steps", [2])), _seen(Note("steps", [1, 2], promised=[1, 2])))
    assert row.is_right and row.is_promised
    (row,) = rows_of("c", _seen(Note("steps", [2])), _seen(Note("steps", [2], promised=[1, 2])))
    assert not row.is_right, "a promise that is not kept"


def test_a_promise_is_one_of_ingest_alone(tmp_path: Path) -> None:
    """In the served tree everything is as on a disk."""
    for place, promised in ((Place.INGEST, [1, 2]), (Place.TREE, None), (Place.DISK, None)):
        side = Side(place, tmp_path, tmp_path, tmp_path)
        side.note("steps", [2], promised=[1, 2])
        assert side.notes == [Note("steps", [2], promised)]


def test_what_is_only_told_is_never_wrong() -> None:
    told = Note("seconds", 3, compared=False)
    (row,) = rows_of("c", _seen(told), _seen(Note("seconds", 4, compared=False)))
    assert (row.plain, row.mount, row.is_right, row.mark) == ("3", "4", True, "told")
    (row,) = rows_of("c", _seen(), _seen(told))
    assert row.is_right


def test_files_in_the_end_are_those_of_the_disk_in_the_served_tree() -> None:
    disk = {**_seen(), "comparable": {"a": "1", "b": "2"}}
    same = {**_seen(), "comparable": {"a": "1", "b": "2"}, "afterwards": []}
    other = {**same, "comparable": {"a": "1"}}
    late = {**same, "afterwards": ["after a remount: other content: a"]}
    assert afterwards("c", disk, same, Place.TREE).is_right
    row = afterwards("c", disk, other, Place.TREE)
    assert (row.mount, row.is_right) == ("beside the disk: 1 missing: b", False)
    assert afterwards("c", disk, other, Place.INGEST).is_right, "a case looks at what is served from there itself"
    assert not afterwards("c", disk, late, Place.INGEST).is_right


def test_what_only_the_disk_saw_is_wrong() -> None:
    rows = list(rows_of("c", _seen(Note("files", 1), Note("weights", 2)), _seen(Note("files", 1))))
    assert [(row.what, row.is_right) for row in rows] == [("files", True), ("weights", False)]


def test_a_side_that_did_not_come_to_its_end_is_told_once() -> None:
    whole, half = _seen(Note("files", 1), Note("weights", 2)), _seen(Note("files", 1), error="it hangs")
    for plain, mount in ((whole, half), (half, whole)):
        rows = list(rows_of("c", plain, mount))
        assert [(row.what, row.is_right) for row in rows] == [("files", True), ("goes on to its end", False)]
        assert "it hangs" in (rows[-1].plain, rows[-1].mount)


def test_false_is_no_missing_value() -> None:
    (row,) = rows_of("c", _seen(Note("served", value=True)), _seen(Note("served", value=False, promised=False)))
    assert (row.plain, row.mount, row.is_right) == ("yes", "no", True)
    assert text([]) == "none"


@pytest.mark.parametrize("where", CASES.values())
def test_every_case_is_there(where: str) -> None:
    module, function = where.split(".")
    assert getattr(import_module(f"tools.clients.{module}"), function).__doc__


def test_every_case_runs_somewhere_on_a_mount() -> None:
    assert CASES.keys() >= INGEST_ONLY | TREE_ONLY
    for name in CASES:
        assert is_run(name, Place.TREE) or is_run(name, Place.INGEST)


def test_what_a_mount_shows_beside_the_cases_is_not_theirs(tmp_path: Path) -> None:
    for name in ("ingest/a", ".zipfs/log", "run/ingest", "b.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "latest").symlink_to("run")
    found = everything(tmp_path)
    assert sorted(found) == ["b.tmp", "latest", "run/ingest"]
    assert found["latest"] == "-> run"
    assert sorted(excluding(found, ("*.tmp", "run/*"))) == ["latest"]


def test_a_process_beside_a_case_ends_with_it() -> None:
    with beside("tests.tools.test_clients", "_count_until_told") as said:
        assert not said
    assert printed("\n".join(said)) == ["ended"]
    with pytest.raises(RuntimeError, match="_fail ended with 1"), beside("tests.tools.test_clients", "_fail"):
        pass


def _count_until_told() -> None:
    while not is_told_to_end():
        time.sleep(0.001)
    sys.stdout.write("@ended\n")


def _fail() -> None:
    raise ValueError


def test_a_difference_of_trees_is_told(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / ".git" / "index").write_text(name)
        (tmp_path / name / "same").write_text("same")
        (tmp_path / name / "link").symlink_to("same")
    one, other = tmp_path / "one", tmp_path / "other"
    assert difference(tree(one, ".git"), tree(other, ".git")) == "the same"
    assert difference(tree(one), tree(other)) == "other content: .git/index"
    (other / "same").unlink()
    (other / "more").write_text("more")
    assert difference(tree(one, ".git"), tree(other, ".git")) == "1 missing: same; 1 too many: more"


def test_a_table_of_markdown_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_markdown([Row("c", "said", "a|b", "two\nlines", is_right=False)])
    assert capsys.readouterr().out.splitlines()[-1] == "| c | said | a\\|b | two lines | **no** |"
