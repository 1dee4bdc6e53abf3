"""How try_clients judges what clients saw on a plain disk and on a mount."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tools.clients.__main__ import Row, print_markdown, rows_of, text
from tools.clients.case import CASES
from tools.clients.side import Note, difference, tree


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
