"""The spans of a model of CTranslate2 are its variables."""

from __future__ import annotations

import pytest

from tests.formats.contract import Tensors, tensors_in
from tests.formats.ctranslate2_files import BF16, F16, F32, I8, I16, I32, NBYTES, model, string, variable
from tests.formats.written_samples import written
from zipfs.errors import NotThisFormat
from zipfs.formats.ctranslate2 import parse_ctranslate2

DTYPES = {F32: "F32", I8: "I8", I16: "I16", I32: "I32", F16: "F16", BF16: "BF16"}


def tensors(content: bytes) -> Tensors:
    return tensors_in(parse_ctranslate2, content)


def test_a_file_that_the_package_wrote_has_its_variables() -> None:
    files = written("ctranslate2")
    for name in ("float32", "float16", "int8"):
        wanted = {key.split(":")[1]: items for key, items in files.items() if key.startswith(f"{name}:")}
        found = tensors(files[f"{name}.bin"])
        assert {key: items for key, (_, _, items) in found.items()} == wanted
        assert len(wanted) > 10


@pytest.mark.parametrize("version", range(2, 7))
@pytest.mark.parametrize("type_id", DTYPES)
def test_variables_of_every_version_and_type(version: int, type_id: int) -> None:
    items = bytes(range(6 * NBYTES[type_id]))
    aliases = [string(b"a"), string(b"w")]
    found = tensors(model([variable(b"w", (2, 3), type_id, items, version)], aliases, version))
    dtype = DTYPES[type_id] if version >= 4 else {1: "I8", 2: "I16", 4: "F32"}[NBYTES[type_id]]
    assert found == {"w": (dtype, (2, 3), items)}


@pytest.mark.parametrize(
    "content",
    [
        model([variable(b"w", (2, 3), F32, bytes(24))])[:-1],
        model([variable(b"w", (2, 3), F32, bytes(24))]) + b"\0",
        model([variable(b"w", (2, 4), F32, bytes(24))]),
        model([variable(b"w", (24,), 6, bytes(24))]),
        model([variable(b"w", (1,) * 33 + (6,), F32, bytes(24))]),
        model([variable(b"w", (6,), F32, bytes(24))], count=2**32 - 1),
        model([variable(b"w", (6,), F32, bytes(24))], version=7),
    ],
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(NotThisFormat):
        tensors(content)
