"""The spans of a weight file of Core ML are its blobs."""

from __future__ import annotations

import pytest

from tests.formats.contract import Tensors, tensors_in
from tests.formats.coreml_files import weights
from tests.formats.written_samples import written
from zipfs.errors import NotThisFormat
from zipfs.formats.coreml import parse_coreml


def tensors(content: bytes) -> Tensors:
    return tensors_in(parse_coreml, content)


def test_a_file_that_the_package_wrote_has_its_blobs() -> None:
    files = written("coreml")
    wanted = {name: items for name, items in files.items() if name.startswith("offset_")}
    found = tensors(files["weight.bin"])
    assert {name: items for name, (_, _, items) in found.items()} == wanted
    assert {dtype for dtype, _, _ in found.values()} >= {"F16", "F32", "I8", "U8"}


def test_blobs_of_other_types_or_of_no_whole_items_are_plain() -> None:
    items = bytes(range(64))
    found = tensors(weights([(99, items), (2, items[:63]), (2, items), (16, items[:5])]))
    assert found == {"offset_320": ("F32", (16,), items), "offset_448": ("F8_E4M3", (5,), items[:5])}


@pytest.mark.parametrize(
    "content",
    [
        weights([]),
        weights([(2, bytes(64))], count=2),
        weights([(2, bytes(64))], sentinel=1),
        weights([(2, bytes(64))], version=1),
        weights([(2, bytes(64))], more=1),
        weights([(2, bytes(64))], more=2**64 - 65),
    ],
)
def test_what_is_no_weight_file_is_refused(content: bytes) -> None:
    with pytest.raises(NotThisFormat):
        tensors(content)
