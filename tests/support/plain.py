"""Plain copies of what a mount serves, and how what was read is compared with them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pair:
    """A served file, what was written (several versions where it is replaced), and the ranges that cannot be read."""

    served: str
    plain: tuple[str, ...]
    bad: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """The files of each kind, and the path whose existence ends all programs."""

    stop: str
    good: tuple[Pair, ...] = ()
    damaged: tuple[Pair, ...] = ()
    replaced: tuple[Pair, ...] = ()

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path


def read_spec(path: str) -> Spec:
    document = json.loads(Path(path).read_text())
    kinds = {
        kind: tuple(
            Pair(one["served"], tuple(one["plain"]), tuple((begin, end) for begin, end in one["bad"]))
            for one in document[kind]
        )
        for kind in ("good", "damaged", "replaced")
    }
    return Spec(document["stop"], **kinds)


class Different(AssertionError):
    """What was read is not what was written."""


def compare(got: bytes | bytearray | memoryview, expected: memoryview, where: str, offset: int) -> None:
    if got == expected:
        return
    at = next((at for at, (one, other) in enumerate(zip(got, expected, strict=False)) if one != other), -1)
    raise Different(
        f"{where}: {len(expected)} bytes at {offset}: "
        + (f"{len(got)} bytes came" if at < 0 else f"the byte at {offset + at} is wrong")
    )


class Plain:
    """The plain copies, each read once."""

    def __init__(self) -> None:
        self._contents: dict[str, memoryview] = {}

    def of(self, path: str) -> memoryview:
        content = self._contents.get(path)
        if content is None:
            content = self._contents[path] = memoryview(Path(path).read_bytes())
        return content
