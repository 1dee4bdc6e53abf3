"""What a mount answers when it is asked what it has counted, whatever that is."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from zipfs.cli import mount_state
from zipfs.errors import PathError


def answer(answering: Path, document: object) -> None:
    (answering / ".zipfs" / "perf.json").write_text(json.dumps(document))


def test_a_mount_that_does_not_answer_is_not_waited_for(answering: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = answering / ".zipfs" / "perf.json"
    os.mkfifo(pipe)
    monkeypatch.setattr(mount_state, "_ANSWER_S", 0.05)
    with pytest.raises(PathError, match="has not answered"):
        mount_state.counters_of(answering)
    with pytest.raises(OSError) as caught:
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    assert caught.value.errno == errno.ENXIO  # nobody is left who waits


@pytest.mark.parametrize("document", [None, [], {}, "x", {"format": 2}, {"format": 1}, {"format": 1, "operations": 1}])
def test_answers_of_another_version_are_refused(answering: Path, document: object) -> None:
    answer(answering, document)
    with pytest.raises(PathError, match="another version"):
        mount_state.counters_of(answering)


def test_an_answer_without_end_is_cut_off(answering: Path) -> None:
    with open(answering / ".zipfs" / "perf.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PathError, match="cannot be read"):
        mount_state.counters_of(answering)
