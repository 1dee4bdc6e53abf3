"""What documents for developers name is there: files, folders, and tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zipfs.formats import PARSERS

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "zipfs/README.md",
    "CONTRIBUTING.md",
    "zipfs/formats/README.md",
    "zipfs/mount/CONCURRENCY.md",
    "tests/README.md",
)
NAMED = re.compile(r"`([\w./-]+(?:\.(?:py|c|h|md)|/))(?:::(\w+))?`|\]\(([\w./-]+)\)")


def named_in(document: str) -> list[tuple[str, str]]:
    """Return what a document names: (path, name of a test or "")."""
    text = (REPOSITORY / document).read_text()
    return [(match[1] or match[3], match[2] or "") for match in NAMED.finditer(text)]


def is_there(path: str, document: str) -> bool:
    folders = (REPOSITORY, REPOSITORY / "zipfs", REPOSITORY / document / "..", REPOSITORY / "zipfs" / "mount")
    return any((folder / path).resolve().exists() for folder in folders)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_is_there(document: str) -> None:
    named = named_in(document)
    assert len(named) > 5
    elsewhere = ("ingest/", "a/", "log/", "locks/")  # of a mount or a store
    assert [path for path, _ in named if path not in elsewhere and not is_there(path, document)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_is_there(document: str) -> None:
    for path, name in named_in(document):
        if name:
            assert f"def {name}(" in (REPOSITORY / path).read_text(), f"{path}::{name}"


def test_every_format_that_is_taken_apart_has_its_row() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", (REPOSITORY / "zipfs" / "formats" / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(parser.format for parser in PARSERS)
