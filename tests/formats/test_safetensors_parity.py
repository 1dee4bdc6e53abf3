"""The parser takes exactly what the safetensors package takes; the exceptions are listed here with their reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.formats.hostile import (
    BITS_OF_DTYPE,
    LENGTH_NBYTES,
    MAX_HEADER_NBYTES,
    container,
    entry,
    hostile_files,
    pattern,
    valid_files,
)
from zipfs.dtypes import BLOCK_DTYPES, SAFETENSORS_DTYPES
from zipfs.errors import NotThisFormat
from zipfs.formats import Layout, parse_safetensors
from zipfs.formats.header_json import MAX_NUMBERS, MAX_SKIPPED_NBYTES
from zipfs.formats.registry import HEAD_NBYTES
from zipfs.formats.safetensors import MAX_NAME_NBYTES, MAX_TENSORS, looks_like_safetensors

FILES = dict(valid_files()) | dict(hostile_files())

deserialize: Callable[[bytes], list[tuple[str, Any]]] = safetensors.deserialize

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]


def ours(content: bytes) -> Layout | None:
    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(content)
        return content[offset : offset + length]

    try:
        layout = parse_safetensors(read, len(content))
    except NotThisFormat:
        return None
    assert looks_like_safetensors(content[:HEAD_NBYTES], len(content))
    return layout


def theirs(content: bytes) -> Tensors | None:
    try:
        tensors = deserialize(content)
    except safetensors.SafetensorError:
        return None
    return {name: (info["dtype"], tuple(info["shape"]), bytes(info["data"])) for name, info in tensors if info["data"]}


def assert_parity(content: bytes) -> bool:
    """Both refuse, or both find the same tensors. Returns whether they accept."""
    layout, expected = ours(content), theirs(content)
    if layout is None or expected is None:
        assert (layout is None) == (expected is None), content[:500]
        return False
    end = 0
    for span in layout.spans:
        assert span.offset == end
        assert span.nbytes > 0
        end += span.nbytes
    assert end == len(content)
    found = {s.name: (s.dtype, s.shape, content[s.offset : s.offset + s.nbytes]) for s in layout.spans[1:]}
    assert found == expected
    return True


@pytest.mark.parametrize("name", FILES)
def test_listed_files(name: str) -> None:
    assert_parity(FILES[name])


def test_valid_files_are_accepted_and_the_list_of_hostile_ones_has_both_kinds() -> None:
    assert all(ours(content) is not None for _, content in valid_files())
    verdicts = [ours(content) is not None for _, content in hostile_files()]
    assert verdicts.count(True) > 50
    assert verdicts.count(False) > 200


def test_safe_open_decides_as_deserialize_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for name, content in FILES.items():
        path.write_bytes(content)
        try:
            with safetensors.safe_open(path, framework="np"):
                opened = True
        except (safetensors.SafetensorError, OSError, ValueError):
            opened = False
        assert opened == (ours(content) is not None), name


def test_every_dtype_of_the_package_is_known_with_its_size() -> None:
    with pytest.raises(safetensors.SafetensorError, match="unknown variant") as refusal:
        deserialize(container(json.dumps({"a": entry("?", [], 0, 0)})))
    known = set(re.findall(r"`(\w+)`", str(refusal.value).split("expected one of")[1]))
    assert known == set(SAFETENSORS_DTYPES)
    assert {name: dtype.bits for name, dtype in SAFETENSORS_DTYPES.items()} == BITS_OF_DTYPE


@pytest.mark.parametrize("dtype", sorted(BLOCK_DTYPES))
def test_block_types_are_none_of_the_package(dtype: str) -> None:
    block = BLOCK_DTYPES[dtype]
    header = json.dumps({"a": entry(dtype, [block.block_weights], 0, block.block_nbytes)})
    assert not assert_parity(container(header, pattern(block.block_nbytes)))


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_on_headers(over: int) -> None:
    content = container(b"{}".ljust(MAX_HEADER_NBYTES + over))
    assert assert_parity(content) == (not over)


def one_tensor(more: str = "", shape: str = "[2]", name: str = "a") -> bytes:
    return container(f'{{"{name}":{{"dtype":"U8","shape":{shape},"data_offsets":[0,2]{more}}}}}', b"ab")


def row(count: int) -> bytes:
    return container("{" + ",".join(['"":["U8",[0],[0,0]]'] * count) + "}")


STRICTER: dict[str, Callable[[bool], bytes]] = {
    "a number within one decade of the largest f64, where serde_json rounds in its own way": lambda over: one_tensor(
        f',"x":{"1e308" if over else "9.9e307"}'
    ),
    "more axes than any framework has, 2 bytes each in the header and 8 in memory": lambda over: one_tensor(
        shape=f"[2{',1' * (MAX_NUMBERS - 1 + over)}]"
    ),
    "a name longer than a catalog should have to hold": lambda over: one_tensor(name="n" * (MAX_NAME_NBYTES + over)),
    "unknown fields, which no writer makes, cost a microsecond per token": lambda over: one_tensor(
        f',"x":"{"x" * (MAX_SKIPPED_NBYTES - 2 + over)}"'
    ),
    "more tensors than memory should be spent on": lambda over: row(MAX_TENSORS + over),
}
"""Where the parser refuses what the package accepts. The file is then opaque, which is always safe."""


@pytest.mark.slow
@pytest.mark.parametrize("reason", STRICTER)
def test_stricter_than_the_package_only_beyond_a_limit(reason: str) -> None:
    assert assert_parity(STRICTER[reason](False))
    beyond = STRICTER[reason](True)
    assert theirs(beyond) is not None
    assert ours(beyond) is None


# Generated files. A tensor is (name, dtype, shape).

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 5), max_size=4)
METADATA = st.none() | st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4), st.text(max_size=4)
)


@st.composite
def headers(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A valid header, its entries in any order, and the number of bytes of data that belong to it."""
    header: dict[str, Any] = {}
    end = 0
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        dtype = draw(st.sampled_from(sorted(BITS_OF_DTYPE)))
        shape = draw(SHAPES)
        nbits = BITS_OF_DTYPE[dtype]
        if nbits % 8:
            shape.append(4)
        for length in shape:
            nbits *= length
        header[name] = entry(dtype, shape, end, end + nbits // 8)
        end += nbits // 8
    if draw(st.booleans()):
        header["__metadata__"] = draw(METADATA)
    order = draw(st.permutations(sorted(header)))
    return {name: header[name] for name in order}, end


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.slow
@given(headers(), st.booleans(), st.sampled_from([None, (",", ":"), (" ,\n", "\t: ")]), st.integers(0, 9))
@settings(max_examples=150)
def test_generated_valid_files(
    made: tuple[dict[str, Any], int], ascii_only: bool, separators: tuple[str, str] | None, padding: int
) -> None:
    header, nbytes = made
    text = json.dumps(header, ensure_ascii=ascii_only, separators=separators) + " " * padding
    accepted = assert_parity(container(encoded(text), pattern(nbytes)))
    has_surrogates = re.search("[\ud800-\udfff]", json.dumps(header, ensure_ascii=False)) is not None
    assert accepted is not has_surrogates


NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 2**31, 2**32, 2**63, 2**64 - 8, 2**64 - 1, 2**64, -1, 1.0, 0.5, None])
FIELD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "dtype": st.sampled_from([*sorted(BITS_OF_DTYPE), "F128", "", None, 0, {"F32": None}, {"U8": {}}]),
    "shape": st.lists(NUMBERS, max_size=4) | NUMBERS,
    "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3) | NUMBERS,
    "extra": st.recursive(
        NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2)
    ),
}


@pytest.mark.slow
@given(headers(), st.data())
@settings(max_examples=300)
def test_headers_with_altered_meaning(made: tuple[dict[str, Any], int], data: st.DataObject) -> None:
    header, nbytes = made
    tensors = [name for name in header if name != "__metadata__"]
    for _ in range(data.draw(st.integers(1, 2)) if tensors else 0):
        info = header[data.draw(st.sampled_from(tensors))]
        kind = data.draw(st.sampled_from(["set", "drop", "shift", "twin"]))
        field = data.draw(st.sampled_from(sorted(FIELD_VALUES)))
        if kind == "set":
            info[field] = data.draw(FIELD_VALUES[field])
        elif kind == "drop":
            info.pop(field, None)
        elif kind == "shift" and isinstance(offsets := info.get("data_offsets"), list):
            by = data.draw(st.integers(-3, 3))
            info["data_offsets"] = [offset + by if type(offset) is int else offset for offset in offsets]
        else:
            header[data.draw(NAMES)] = info
    grown = max(0, nbytes + data.draw(st.sampled_from([0, 0, 0, 1, -1, 8])))
    assert_parity(container(encoded(json.dumps(header)), pattern(grown)))


TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+|\s+|\w+|.', re.DOTALL)
SPELLINGS = st.sampled_from(
    [
        "{", "}", "[", "]", ",", ":", '"', "\\", " ", "\n", "\t", "\r", "\v", "\0", "\x1f", "\x7f", "\ufeff", "\xa0",
        "0", "1", "2", "-0", "-1", "00", "1.0", "1e0", "1e999", "1E-2", "NaN", "Infinity", "null", "true", "false",
        "18446744073709551616", "//", "'", '""', '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"F32"',
        '"\\u0064type"', '"F4"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\x"', '"\n"', "[]", "{}", "[[]]", "\ud800",
        '{"F32":null}', '{"a":"b"}', '"x":1', '"x":1,', ',"x":[{"y":-1.5e3}]',
    ]
)  # fmt: skip


@pytest.mark.slow
@given(headers(), st.data())
@settings(max_examples=500)
def test_headers_with_altered_tokens(made: tuple[dict[str, Any], int], data: st.DataObject) -> None:
    header, nbytes = made
    tokens = TOKEN.findall(json.dumps(header, separators=data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(tokens) - 1)) if tokens else 0
        kind = data.draw(st.sampled_from(["replace", "insert", "delete", "double", "swap"]))
        if kind == "replace":
            tokens[at : at + 1] = [data.draw(SPELLINGS)]
        elif kind == "insert":
            tokens.insert(at, data.draw(SPELLINGS))
        elif kind == "delete":
            del tokens[at : at + data.draw(st.integers(1, 4))]
        elif kind == "double":
            tokens[at:at] = tokens[at : at + data.draw(st.integers(1, 20))]
        else:
            tokens[at : at + 2] = reversed(tokens[at : at + 2])
    assert_parity(container(encoded("".join(tokens)), pattern(nbytes)))


@given(st.sampled_from(sorted(dict(valid_files()))), st.data())
@settings(max_examples=400)
def test_files_with_altered_bytes(name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(content), 120) - 1)) if content else 0
        kind = data.draw(st.sampled_from(["set", "flip", "insert", "delete", "cut"]))
        byte = data.draw(st.integers(0, 255) | st.sampled_from(list(b'{}[],:"\\ 0129-+.eE')))
        if kind == "set" and content:
            content[at] = byte
        elif kind == "flip" and content:
            content[at] ^= 1 << (byte % 8)
        elif kind == "insert":
            content.insert(at, byte)
        elif kind == "delete":
            del content[at : at + 1]
        else:
            del content[len(content) - byte % 4 :]
    if data.draw(st.booleans()) and len(content) >= LENGTH_NBYTES:
        closing = bytes(content).rfind(b"}")
        content[:LENGTH_NBYTES] = max(0, closing + 1 - LENGTH_NBYTES).to_bytes(LENGTH_NBYTES, "little")
    assert_parity(bytes(content))


JSON_ALPHABET = st.sampled_from([*'{}[],:"\\ud80-.e é', '"a"', "null"])


@pytest.mark.slow
@given(st.lists(JSON_ALPHABET, max_size=30).map("".join))
@settings(max_examples=400)
@example('\\ud83d\\ude00"')
def test_unknown_fields_of_any_text(text: str) -> None:
    assert_parity(one_tensor(f',"x":{text}'))
    assert_parity(one_tensor(f',"x":"{text}"'))
    assert_parity(container(f'{{"__metadata__":{{"x":"{text}"}}}}'))


@pytest.mark.slow
@given(
    st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{0,25})?([eE][-+]?[0-9]{0,12})?", fullmatch=True, alphabet="0123456789.eE+-")
)
@settings(max_examples=400)
def test_numbers_of_any_spelling(text: str) -> None:
    try:
        in_last_decade = 1e308 <= abs(float(text)) < float("inf")
    except ValueError:
        in_last_decade = False
    if not in_last_decade:
        assert_parity(one_tensor(f',"x":{text}'))
    assert_parity(one_tensor(shape=f"[{text}]"))


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=300)
def test_random_bytes(noise: bytes, framed: bool) -> None:
    assert_parity(container(noise) if framed else noise)
