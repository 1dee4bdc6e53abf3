"""A `zipfs` command that a test has run in its own process (the fixture `run` of tests/cli), and what it may store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.stores import model, tuned, weights

BASE = weights(30_000)
FILES = {
    b"base.safetensors": model(BASE),
    b"tuned.safetensors": model(tuned(BASE)),
    b"config.json": b'{"a": 1}',
    b"sub/\xff\xfe": b"not UTF-8",
    b"sub/empty": b"",
}


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


def assert_refused(done: Done, code: int, *words: str) -> None:
    """One line that names what it is about, the exit code that is documented, and no traceback."""
    assert done.code == code, done.err
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("zipfs: ")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
