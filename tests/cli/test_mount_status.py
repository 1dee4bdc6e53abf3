"""A mount of another version may say anything of itself: commands show what they know, or say so in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Run, assert_refused
from zipfs.mount import points

WORKER = {
    "file": "m/model.safetensors", "work_nbytes": 5, "file_nbytes": 10, "deaths": 1, "dying_since": 1.5e9,
    "last_words": ["Killed"], "ended": "was killed", "starts_again_at": None, "optimizing": ["rebasing", 1, 2],
    "waiting": "for room",
}  # fmt: skip
STATUS: dict[str, Any] = {
    "store": "/store", "stored_files": 2, "stored_raw_nbytes": 100, "packs_nbytes": 10, "queued_files": 0,
    "queued_nbytes": 0, "unsealed_files": 0, "failed_files": 0, "worker": WORKER,
    "unfinished_files": ["x.part"], "unfinished_in_place": ["run/y.incomplete"],
    "writing": [{"path": "a", "pid": 1, "program": "cp"}], "kept": [{"path": ".git", "files": 3, "nbytes": 30}],
    "errors": [{"path": "b", "error": "no space", "attempts": 2, "at": 1.5e9}], "hints": ["copy into ingest/"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _as_a_mount(answering: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "top_of", lambda path: str(answering))


def answer(answering: Path, document: object) -> None:
    (answering / ".zipfs" / "status.json").write_text(json.dumps(document))


def mutilated(document: Any) -> Iterator[Any]:
    """A document with one part of it missing, or of another type, in turn."""
    if isinstance(document, dict):
        for name, value in document.items():
            others = {other: document[other] for other in document if other != name}
            yield others
            yield from ({**others, name: changed} for changed in mutilated(value))
    elif isinstance(document, list):
        for at, value in enumerate(document):
            yield from ([*document[:at], changed, *document[at + 1 :]] for changed in mutilated(value))
    yield {"surprise": document}
    yield [document]
    yield "\x1b[31m" if not isinstance(document, str) else 7


def test_what_a_mount_says_is_shown(run: Run, answering: Path) -> None:
    answer(answering, STATUS)
    done = run("status", answering)
    assert done.code == 0, done.err
    for line in (
        "stored      2 files, 100 B in 10 B (10.0%)",
        "working on  m/model.safetensors (10 B, 25.0%)",
        "optimizing  rebasing (50.0%)",
        "waiting     for room",
        "writing     a (open in cp, process 1)",
        "unfinished  x.part (waits for its final name)",
        "unfinished  run/y.incomplete (served, and compressed under its final name)",
        "failed      b: no space (tried 2 times)",
        "hint        copy into ingest/",
    ):
        assert line in done.out.decode().splitlines()
    assert "it said: Killed" in done.out.decode()
    assert run("status", answering, "--json").json == STATUS
    assert run("wait", answering).code == 1


def test_what_it_leaves_out_or_says_otherwise_is_one_clear_line(run: Run, answering: Path) -> None:
    refused = 0
    for document in mutilated(STATUS):
        answer(answering, document)
        for command in ("status", "wait"):
            done = run(command, answering)
            assert "bug in ZipFS" not in done.err, (command, document, done.err)
            assert "\x1b" not in done.out.decode() + done.err
            if done.code == 3:
                refused += 1
                assert_refused(done, 3, str(answering), "another version")
            else:
                assert done.code in (0, 1), (document, done.err)
    assert refused > 50
