"""What the fuzzer kept of each format is laid out whole or refused, by its own parser and by all others."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.formats.contract import check, parsed
from zipfs.formats import PARSERS, Parser

CORPUS: Final = Path(__file__).parent / "corpus"
KEPT: Final = sorted(path.stem for path in CORPUS.glob("*.zip"))
BY_NAME: Final = {parser.format: parser for parser in PARSERS}


def inputs(name: str) -> list[bytes]:
    with zipfile.ZipFile(CORPUS / f"{name}.zip") as archive:
        return [archive.read(entry) for entry in archive.namelist()]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.format)
def test_an_input_is_laid_out_whole_or_refused(parser: Parser, name: str) -> None:
    for content in inputs(name):
        check(parser, content)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_of_a_format_is_taken_and_refused_by_its_parser(name: str) -> None:
    taken = [parsed(BY_NAME[name], content) is not None for content in inputs(name)]
    assert any(taken)
    assert not all(taken)
