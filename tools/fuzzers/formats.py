"""Runs one parser of a container under atheris, and chooses which inputs are worth keeping.

Usage: python -m tools.fuzzers.formats list | seeds NAME DIR | run NAME LIBFUZZER_ARGUMENT... | keep NAME DIR...
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = ROOT / "tests/formats/corpus"
PARSERS_FOLDER: Final = str(ROOT / "zipfs/formats")
LARGEST_KEPT_NBYTES: Final = 4096
"""Large inputs say little that small ones do not, and weigh on every clone."""
LARGEST_SEED_NBYTES: Final = 1 << 16
DATE: Final = (2000, 1, 1, 0, 0, 0)


def list_names() -> None:
    from zipfs.formats import PARSERS

    print(*(parser.format for parser in PARSERS), sep="\n")


def write_seeds(name: str, folder: Path) -> None:
    """Write what is kept of this format, and those files of the tests that its parser looks at."""
    from tests.contracts.test_container_parser import FILES
    from zipfs.formats import PARSERS
    from zipfs.formats.registry import HEAD_NBYTES

    parser = next(parser for parser in PARSERS if parser.format == name)
    for content in FILES.values():
        if len(content) <= LARGEST_SEED_NBYTES and parser.recognises(content[:HEAD_NBYTES], len(content)):
            _put(folder, content)
    kept = CORPUS / f"{name}.zip"
    if kept.exists():
        with zipfile.ZipFile(kept) as archive:
            for entry in archive.namelist():
                _put(folder, archive.read(entry))
    (folder / ".made").touch()


def _put(folder: Path, content: bytes) -> None:
    (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


def run(name: str, arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends this process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["zipfs.formats"]):
        from zipfs.formats import PARSERS
    from tests.formats.contract import check

    parser = next(parser for parser in PARSERS if parser.format == name)
    atheris.Setup([sys.argv[0], *arguments], lambda content: check(parser, content))
    atheris.Fuzz()


class _Reached:
    """Which steps from line to line of the parsers an input takes."""

    def __init__(self) -> None:
        self.steps: set[tuple[str, int, int]] = set()
        self._last: dict[FrameType, int] = {}

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PARSERS_FOLDER):
            return None
        if event == "line":
            self.steps.add((frame.f_code.co_filename, self._last.get(frame, 0), frame.f_lineno))
            self._last[frame] = frame.f_lineno
        elif event == "return":
            self._last.pop(frame, None)
        return self.trace


def keep(name: str, folders: Iterable[Path]) -> None:
    """Keep the smallest inputs that together take every step that any of them takes."""
    from tests.formats.contract import parsed
    from zipfs.formats import PARSERS

    parser = next(parser for parser in PARSERS if parser.format == name)
    paths = (path for folder in folders for path in folder.iterdir() if path.is_file())
    contents = {path.read_bytes() for path in paths if path.stat().st_size <= LARGEST_KEPT_NBYTES}
    taken: set[tuple[str, int, int]] = set()
    chosen = []
    for content in sorted(contents, key=lambda content: (len(content), content)):
        reached = _Reached()
        sys.settrace(reached.trace)
        try:
            parsed(parser, content)
        finally:
            sys.settrace(None)
        if not reached.steps <= taken:
            taken |= reached.steps
            chosen.append(content)
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPUS / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for content in chosen:
            entry = zipfile.ZipInfo(hashlib.sha256(content).hexdigest()[:16], DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    nbytes = (CORPUS / f"{name}.zip").stat().st_size
    print(f"fuzz: {len(chosen)} of {len(contents)} inputs in {nbytes} bytes of tests/formats/corpus/{name}.zip")


def main() -> None:
    match sys.argv[1:]:
        case ["list"]:
            list_names()
        case ["seeds", name, folder]:
            write_seeds(name, Path(folder))
        case ["run", name, *arguments]:
            run(name, arguments)
        case ["keep", name, *folders]:
            keep(name, map(Path, folders))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
