"""Spans of a file of PyTorch are the tensors that PyTorch reads from it, byte for byte."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest

from tests.formats.torch_files import torch_files, torch_rows
from zipfs.errors import NotThisFormat
from zipfs.formats import Layout, lay_out, torch_zip
from zipfs.formats.torch_zip import parse_torch, parse_torch_run
from zipfs.formats.zip_directory import read_directory

FILES: Final = dict(torch_files())
ROWS: Final = torch_rows()

Tensors = dict[str | None, tuple[str, list[int], str]]


def reader(content: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: content[offset : offset + length]


def laid_out(content: bytes) -> Layout:
    layout = lay_out(b"model", reader(content), len(content))
    end = 0
    for span in layout.spans:
        assert span.offset == end
        assert span.nbytes > 0
        end += span.nbytes
    assert end == len(content)
    return layout


def tensors(content: bytes) -> Tensors:
    return {
        span.name: (
            span.dtype,
            list(span.shape),
            hashlib.sha256(content[span.offset : span.offset + span.nbytes]).hexdigest(),
        )
        for span in laid_out(content).spans
        if span.name is not None
    }


def names(content: bytes) -> list[tuple[str | None, str, tuple[int, ...]]]:
    return [(span.name, span.dtype, span.shape) for span in laid_out(content).spans if span.name is not None]


@pytest.mark.parametrize("name", FILES)
def test_tensors_are_those_that_torch_has(name: str) -> None:
    expected = {row["name"]: (row["dtype"], row["shape"], row["sha256"]) for row in ROWS[name]}
    found = tensors(FILES[name])
    assert {tensor: found.get(tensor) for tensor in expected} == expected


MORE: Final = {
    "views.pt": {"data/4", "data/4 at 2424"},
    "exported.pt2": {"data/sample_inputs/model.pt.0.0"},
    "wrapped.pt": {
        "data/3",
        "csr.1.1",
        "ragged.1",
        "ragged.2",
        "ragged.3",
        "spread._spec.mesh._rank_map",
        "data/24",
    },
    "big.pt": {"w"},
}
"""What is found besides: rests of storages, shapes of ragged tensors, meshes, inputs."""


@pytest.mark.parametrize("name", [name for name in FILES if name != "legacy-views.bin"])
def test_nothing_else_is_a_tensor(name: str) -> None:
    assert set(tensors(FILES[name])) - {row["name"] for row in ROWS[name]} == MORE.get(name, set())


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_has_its_format(name: str) -> None:
    expected = "torch-distcp" if name.endswith(".distcp") else "torch-legacy" if name.startswith("legacy") else "torch"
    assert laid_out(FILES[name]).format == expected


def test_items_of_a_big_endian_machine_are_plain_bytes() -> None:
    assert names(FILES["big.pt"]) == [("w", "", ())]


def test_one_read_of_the_end_and_one_of_each_header_lay_out_an_archive() -> None:
    content, reads = FILES["types.pt"], list[int]()

    def read(offset: int, length: int) -> bytes:
        reads.append(length)
        return content[offset : offset + length]

    parse_torch(read, len(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = len(archive.namelist())
        described = archive.getinfo("archive/data.pkl").file_size
    assert len(reads) == 1 + entries + 2
    assert max(reads) == max(4096, described)


def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return out.getvalue()


class Storage:
    """A storage as torch pickles it."""

    def __init__(self, kind: str, key: str, count: int) -> None:
        self.id = ("storage", Global(f"torch.{kind}"), key, "cpu", count)


class Global:
    def __init__(self, name: str) -> None:
        self.name = name


class Call:
    def __init__(self, function: str, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


def tensor(storage: Storage, offset: int, shape: tuple[object, ...], strides: tuple[object, ...]) -> Call:
    return Call("torch._utils._rebuild_tensor_v2", storage, offset, shape, strides, False, None)


def pickled(value: object) -> bytes:
    """Pickle by hand, so that names of classes need not exist: protocol 2 as torch writes it."""
    if isinstance(value, Storage):
        return pickled(value.id) + b"Q"
    if isinstance(value, Global):
        module, _, name = value.name.rpartition(".")
        return b"c" + module.encode() + b"\n" + name.encode() + b"\n"
    if isinstance(value, Call):
        return pickled(Global(value.function)) + pickled(value.arguments) + b"R"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(pickled, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(pickled, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(pickled(key) + pickled(item) for key, item in value.items()) + b"u"
    return pickle.dumps(value, 2)[2:-1]


def saved(value: object, storages: dict[str, bytes], **more: bytes) -> bytes:
    entries = {"m/data.pkl": b"\x80\x02" + pickled(value) + b".", **{f"m/data/{k}": v for k, v in storages.items()}}
    return archive(entries | {f"m/{name}": content for name, content in more.items()})


FLOATS: Final = Storage("FloatStorage", "0", 6)
BYTES: Final = bytes(range(24))


def test_a_tensor_is_called_by_the_way_to_it() -> None:
    content = saved({"model": [{"a.b": tensor(FLOATS, 0, (2, 3), (3, 1))}]}, {"0": BYTES})
    assert names(content) == [("model.0.a.b", "F32", (2, 3))]


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([(0, (2, 3), (3, 1))], [("0", "F32", (2, 3))]),
        ([(0, (2, 3), (1, 2))], [("0", "F32", ())]),
        ([(0, (1, 6), (99, 1))], [("0", "F32", (1, 6))]),
        ([(0, (3,), (1,)), (3, (3,), (1,))], [("0", "F32", (3,)), ("1", "F32", (3,))]),
        ([(3, (3,), (1,)), (0, (3,), (1,))], [("1", "F32", (3,)), ("0", "F32", (3,))]),
        ([(0, (3,), (1,)), (0, (3,), (1,))], [("0", "F32", (3,)), ("data/0", "F32", ())]),
        ([(1, (3,), (1,))], [("data/0", "F32", ()), ("0", "F32", (3,)), ("data/0 at 205", "F32", ())]),
        ([(0, (4,), (1,)), (2, (4,), (1,))], [("0", "F32", ())]),
        ([(0, (3,), (1,)), (0, (6,), (1,))], [("1", "F32", (6,))]),
        ([(0, (3,), (2,))], [("0", "F32", ())]),
        ([(0, (3, 2), (0, 1))], [("0", "F32", ())]),
        ([(0, (), ())], [("0", "F32", ()), ("data/0", "F32", ())]),
        ([(0, (7,), (1,))], [("data/0", "F32", ())]),
        ([(0, (2**62, 2**62), (1, 1))], [("data/0", "F32", ())]),
        ([(2**62, (1,), (1,))], [("data/0", "F32", ())]),
        ([(-1, (3,), (1,))], [("data/0", "F32", ())]),
        ([(0, (-3,), (1,))], [("data/0", "F32", ())]),
        ([(0, (3,), (-1,))], [("data/0", "F32", ())]),
        ([(0, (3,), ())], [("data/0", "F32", ())]),
        ([(0, (True,), (1,))], [("data/0", "F32", ())]),
        ([(0, ("3",), (1,))], [("data/0", "F32", ())]),
        ([(0, (0,), (1,))], [("data/0", "F32", ())]),
        ([(0, (1,) * 65, (1,) * 65)], [("data/0", "F32", ())]),
    ],
)
def test_a_storage_is_cut_by_the_tensors_that_are_views_of_it(
    views: list[tuple[int, tuple[int, ...], tuple[int, ...]]], expected: list[object]
) -> None:
    content = saved([tensor(FLOATS, *view) for view in views], {"0": BYTES})
    assert names(content) == expected


def test_a_storage_of_half_an_item_more_is_plain_bytes() -> None:
    content = saved([tensor(FLOATS, 0, (5,), (1,))], {"0": BYTES[:-2]})
    assert names(content) == [("0", "F32", (5,)), ("data/0", "", ())]


def test_a_storage_without_a_known_type_is_cut_by_its_tensors() -> None:
    untyped = Storage("storage.UntypedStorage", "0", 24)
    view = Call(
        "torch._utils._rebuild_tensor_v3", untyped, 0, (2, 6), (6, 1), False, None, Global("torch.bfloat16"), None
    )
    assert names(saved(view, {"0": BYTES})) == [("data/0", "BF16", (2, 6))]


def test_types_that_are_not_known_are_guessed_from_the_bytes() -> None:
    floats = np.random.default_rng(1).standard_normal(2000).astype("<f4").tobytes()
    text = b"words and words and more words" * 100
    for unreadable in (b"no pickle at all", b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR.", b"(" * 100):
        content = archive({"m/data.pkl": unreadable, "m/data/0": floats, "m/data/1": text})
        assert names(content) == [("data/0", "F32", ()), ("data/1", "", ())]


def test_a_file_is_given_only_so_much_time() -> None:
    inner = saved(tensor(FLOATS, 0, (6,), (1,)), {"0": BYTES})
    content = archive({"m/archive_format": b"pt2", **{f"m/data/{i}.pt": inner for i in range(6)}})
    assert [row[0] for row in names(content)] == [f"data/{i}.pt" for i in range(4)]

    floats = [np.random.default_rng(1).standard_normal(100 * i).astype("<f4").tobytes() for i in range(2, 6)]
    content = archive({"m/data.pkl": b"?", **{f"m/data/{i}": raw for i, raw in enumerate(floats)}})
    read = reader(content)
    budget = torch_zip._Budget(nested=0, guesses=2)
    spans = torch_zip._Archive(read, read_directory(read, len(content)), budget).spans("")
    assert [(span.name, span.dtype) for span in spans] == [("data/3", "F32"), ("data/2", "F32")]

    content = saved(tensor(FLOATS, 0, (6,), (1,)), {"0": BYTES})
    read = reader(content)
    budget = torch_zip._Budget(nested=0, opcodes=10)
    spans = torch_zip._Archive(read, read_directory(read, len(content)), budget).spans("")
    assert [(span.name, span.dtype) for span in spans] == [("data/0", "")]


def test_nothing_is_run() -> None:
    evil = b"\x80\x02cbuiltins\nexec\nX\x12\x00\x00\x00raise SystemExit(1)\x85R."
    assert laid_out(archive({"m/data.pkl": evil})).format == "torch"


def test_a_value_that_holds_itself_and_shares_all_is_walked_once() -> None:
    held = tensor(FLOATS, 0, (6,), (1,))
    cyclic = b"\x80\x02]q\x00(h\x00h\x00" + pickled({"w": held}) + b"e."
    assert names(archive({"m/data.pkl": cyclic, "m/data/0": BYTES})) == [("2.w", "F32", (6,))]
    lists = b"\x80\x02" + b"]q\x00" + b"".join(b"](" + b"h\x00" * 50 + b"eq\x00" for _ in range(200)) + b"."
    assert laid_out(archive({"m/data.pkl": lists, "m/data/0": BYTES})).format == "torch"


def test_one_row_of_arguments_of_many_calls_is_walked_once() -> None:
    """Each call by itself would take 400 million steps."""
    row = b"(" + b"N" * 20_000 + b"tq\x00"
    calls = b"](" + b"cm\nf\nh\x00R" * 20_000 + b"e"
    assert laid_out(archive({"m/data.pkl": b"\x80\x02(" + row + calls + b"t.", "m/data/0": BYTES})).format == "torch"


def test_a_name_that_is_too_long_is_that_of_the_storage() -> None:
    deep: object = tensor(FLOATS, 0, (6,), (1,))
    for _ in range(300):
        deep = {"x": deep}
    assert names(saved(deep, {"0": BYTES})) == [("data/0", "F32", (6,))]
    assert names(saved({"n" * 2000: tensor(FLOATS, 0, (6,), (1,))}, {"0": BYTES})) == [("data/0", "F32", (6,))]


def test_a_name_is_always_text_that_can_be_printed() -> None:
    lone = b"\x80\x02}(X\x03\x00\x00\x00\xed\xa0\x80" + pickled(tensor(FLOATS, 0, (6,), (1,))) + b"u."
    assert names(archive({"m/data.pkl": lone, "m/data/0": BYTES})) == [("\\ud800", "F32", (6,))]


def test_deflated_storages_are_plain_bytes() -> None:
    entries = {"m/data.pkl": b"\x80\x02" + pickled([tensor(FLOATS, 0, (6,), (1,))]) + b".", "m/data/0": BYTES}
    assert names(archive(entries, zipfile.ZIP_DEFLATED)) == []


@pytest.mark.parametrize(
    "content",
    [
        archive({"word/document.xml": b"<xml>", "data/0": BYTES}),
        archive({"data.pkl": b"N."}),
        b"more" + archive({"m/data.pkl": b"N."}),
        archive({"m/data.pkl": b"N."}) + b"more",
    ],
)
def test_other_zips_are_refused(content: bytes) -> None:
    with pytest.raises(NotThisFormat):
        parse_torch(reader(content), len(content))
    with pytest.raises(NotThisFormat):
        parse_torch_run(reader(content), len(content))


def test_a_run_of_archives_is_called_by_their_numbers() -> None:
    one, two = (
        saved(tensor(FLOATS, 0, (6,), (1,)), {"0": BYTES}),
        saved({"a": tensor(FLOATS, 0, (6,), (1,))}, {"0": BYTES}),
    )
    assert names(one + two + one) == [("0", "F32", (6,)), ("1.a", "F32", (6,)), ("2", "F32", (6,))]


def test_a_run_with_anything_else_in_it_is_refused() -> None:
    one = saved(tensor(FLOATS, 0, (6,), (1,)), {"0": BYTES})
    for content in (one, b"x" + one + one, one + b"x" + one, one + one + b"x"):
        with pytest.raises(NotThisFormat):
            parse_torch_run(reader(content), len(content))


PT2: Final = (
    b'{"config": {"w": {"path_name": "weight_0", "use_pickle": false, "tensor_meta": {"dtype": 7, '
    b'"sizes": [{"as_int": %s}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}}}}'
)


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        (PT2 % b"6", "F32"),
        (PT2 % b"7", "F32"),
        (PT2 % b'"6"', ""),
        (PT2 % b"-6", ""),
        (PT2 % b"6.0", ""),
        ((PT2 % b"6").replace(b'"dtype": 7', b'"dtype": 999'), ""),
        ((PT2 % b"6").replace(b'"dtype": 7', b'"dtype": []'), ""),
        ((PT2 % b"6").replace(b'"config"', b'"other"'), ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (b"{\xff", ""),
        (b"", ""),
    ],
)
def test_an_exported_program_says_what_its_tensors_are(config: bytes, dtype: str) -> None:
    content = archive(
        {
            "m/archive_format": b"pt2",
            "m/data/weights/weight_0": BYTES,
            "m/data/weights/model_weights_config.json": config,
        }
    )
    assert [row[1] for row in names(content)] == [dtype]


LEGACY: Final = FILES["legacy-types.bin"]


@pytest.mark.parametrize("cut", [1, 8, 100, len(LEGACY) - 20])
def test_a_legacy_file_that_is_cut_is_opaque(cut: int) -> None:
    assert laid_out(LEGACY[:-cut]).format == "opaque"
    assert laid_out(LEGACY + bytes(cut)).format == "opaque"


def legacy(storage: bytes, is_little_endian: bool = True, filler: int = 0, count: int = 6) -> bytes:
    kept = [tensor(Storage("FloatStorage", "7", 6), 0, (6,), (1,)), "x" * filler]
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": is_little_endian}, kept, ["7"])
    head = b"".join(b"\x80\x02" + pickled(part) + b"." for part in parts)
    return head + count.to_bytes(8, "little" if is_little_endian else "big") + storage


def test_legacy_storages_follow_their_counts() -> None:
    assert names(legacy(BYTES)) == [("0", "F32", (6,))]
    assert names(legacy(BYTES, is_little_endian=False)) == [("0", "", ())]
    assert laid_out(legacy(BYTES, count=5)).format == "opaque"
    assert laid_out(legacy(BYTES, count=2**63)).format == "opaque"
    assert laid_out(legacy(BYTES + b"x")).format == "opaque"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_legacy_files_have_pickles_of_any_binary_protocol(protocol: int) -> None:
    content = legacy(BYTES)
    old, new = (pickle.dumps(0x1950A86A20F9469CFC6C, version) for version in (2, protocol))
    assert content.startswith(old)
    assert names(content.replace(old, new)) == [("0", "F32", (6,))]


def test_legacy_pickles_of_any_length_are_read() -> None:
    for filler in (60_000, 70_000, 600_000):
        assert names(legacy(BYTES, filler=filler)) == [("0", "F32", (6,))]
