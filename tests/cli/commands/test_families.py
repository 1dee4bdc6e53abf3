"""`zipfs families`: what it prints for people and for programs."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import Run
from tests.support.documents import FAMILIES, check


def test_families_for_programs(run: Run, family_store: Path) -> None:
    found = run("families", family_store, "--json").json
    check(found, FAMILIES)
    (family,) = found["families"]
    assert family["root"] == "org/base"
    assert [(one["path"], one["parent"]) for one in family["members"]] == [
        ("org/base", None),
        ("me/wide", "org/base"),
        ("me/tuned", "org/base"),
    ]
    assert found["other_files"]["files"] == 1
    assert found["nbytes"] == run("stat", family_store, "--json").json["nbytes"]
    assert found["stored_nbytes"] == run("stat", family_store, "--json").json["stored_nbytes"]
    assert found["saved_nbytes"] == found["nbytes"] - found["stored_nbytes"] > 0


def test_families_for_people(run: Run, family_store: Path) -> None:
    lines = run("families", family_store).out.decode().splitlines()
    assert lines[0].split()[:3] == ["model", "size", "added"]
    names = [line.split("  ")[0] for line in lines if "org/base" in line or "me/" in line]
    assert names == ["org/base", "├─ me/wide", "└─ me/tuned"]
    assert any(line.startswith("3 models") for line in lines)
    assert lines[-1].startswith("all: ")
    assert "1 file outside of models: 5 B in" in "\n".join(lines)
