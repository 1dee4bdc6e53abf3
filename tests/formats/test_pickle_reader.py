"""The reader finds in a pickle what Python finds in it, runs nothing, and gives up before a pickle costs much."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import enum
import pickle
import pickletools
import tracemalloc
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipfs.errors import NotThisFormat
from zipfs.formats import pickle_machine, pickle_reader
from zipfs.formats.pickle_machine import MAX_LINE_NBYTES, MAX_SYMBOL_LENGTH, CutOff
from zipfs.formats.pickle_reader import MAX_INTEGER_NBYTES, read_pickle
from zipfs.formats.pickle_values import Pairs, Persistent, Record, Symbol

PLAIN: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.lists(inner).map(tuple),
    max_leaves=8,
)


def python(value: object) -> object:
    """Turn what was read into what Python would have made of it, calls as they are."""
    if isinstance(value, Pairs):
        flat = [python(part) for part in value.flat]
        return dict(zip(flat[::2], flat[1::2], strict=True))
    if isinstance(value, list):
        return [python(part) for part in value]
    if isinstance(value, tuple):
        return tuple(python(part) for part in value)
    if isinstance(value, Record) and isinstance(value.function, Symbol) and value.function.name == "_codecs.encode":
        assert isinstance(value.arguments, tuple)
        return str(value.arguments[0]).encode("latin-1")
    if isinstance(value, Record) and isinstance(value.function, Symbol) and "bytes" in value.function.name:
        return b""
    return value


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_those_that_python_reads(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    found, end = read_pickle(b"before" + content + b"behind", len(b"before"))
    assert python(found) == value
    assert end == len(b"before") + len(content)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_cut_is_told_as_one(protocol: int) -> None:
    content = pickle.dumps([{"a": (1, 2.5, 1 << 70)}, b"bytes" * 60, "text" * 70, {3}, range(4)], protocol)
    for cut in range(len(content)):
        with pytest.raises(CutOff):
            read_pickle(content[:cut])


class Color(enum.Enum):
    RED = 1


class Slotted:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1


class Words(list[str]):
    pass


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(a=1), collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]), Color.RED,
        collections.deque([1, 2], 3), np.float32(1), np.arange(3), np.dtype("f4"), Words(["a"]), dt.timedelta(1),
        {1, 2}, frozenset([1]), bytearray(b"x"), 1j, len, range(3), Slotted(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_objects_become_records_of_calls(value: object, protocol: int) -> None:
    found, _ = read_pickle(pickle.dumps(value, protocol))
    assert isinstance(found, (Record, Symbol, list, bytes, tuple))


def test_what_is_put_into_an_object_is_kept_with_the_call_that_makes_it() -> None:
    made, _ = read_pickle(pickle.dumps(collections.OrderedDict(a=1, b=2), 2))
    assert isinstance(made, Record) and isinstance(made.function, Symbol)
    assert (made.function.name, made.flat) == ("collections.OrderedDict", ["a", 1, "b", 2])
    words, _ = read_pickle(pickle.dumps(Words(["a", "b"]), 2))
    assert isinstance(words, Record) and words.values == ["a", "b"]
    space, _ = read_pickle(pickle.dumps(argparse.Namespace(a=1), 2))
    assert isinstance(space, Record) and isinstance(space.state, Pairs) and space.state.flat == ["a", 1]


def test_persistent_ids_are_kept() -> None:
    for content, expected in ((b"Pname\n.", "name"), (b"\x80\x02(K\x01K\x02tQ.", (1, 2))):
        found, _ = read_pickle(content)
        assert isinstance(found, Persistent) and found.id == expected


def test_a_value_may_hold_itself() -> None:
    value: list[object] = []
    value.append(value)
    found, _ = read_pickle(pickle.dumps(value, 2))
    assert isinstance(found, list) and found[0] is found


def test_every_opcode_is_known() -> None:
    known = {opcode.code for opcode in pickletools.opcodes}
    assert known == {*pickle_reader._KNOWN, *"qrh."}
    for opcode in set(map(chr, range(256))) - known:
        with pytest.raises(NotThisFormat, match="no opcode"):
            read_pickle(opcode.encode("latin-1") + b"." * 9)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('was run')",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(protocol: int) -> None:
    found, _ = read_pickle(pickle.dumps([Evil()], protocol))
    assert isinstance(found, list) and isinstance(found[0], Record)
    for content in (b"(S'x'\nios\nsystem\n.", b"(cos\nsystem\nS'x'\no.", b"\x80\x02cno.such\nthing\n)\x81."):
        assert isinstance(read_pickle(content)[0], Record)


REFUSED: Final = {
    "stack underflow": b"\x80\x020" + b"N" * 8 + b".",
    "nothing on the stack": b"\x80\x02." + b"N" * 8,
    "no mark": b"\x80\x02Nt........",
    "tuple of three of one": b"\x80\x02N\x87........",
    "memo that was never put": b"\x80\x02h\x07........",
    "memo of no number": b"\x80\x02NpX\n........",
    "append to nothing": b"\x80\x02NNa........",
    "keys of a list": b"\x80\x02]NNs........",
    "odd number of keys and values": b"\x80\x02}(Nu........",
    "state of a dict": b"\x80\x02}Nb........",
    "global of numbers": b"\x80\x04K\x01K\x02\x93........",
    "protocol 6": b"\x80\x06N.........",
    "text that is not UTF-8": b"\x80\x02X\x02\x00\x00\x00\xff\xff........",
    "integer of no digits": b"Iabc\n........",
    "integer of many digits": b"I" + b"9" * 1000 + b"\n........",
    "float of no digits": b"Fabc\n........",
    "huge integer": b"\x80\x02\x8b" + (MAX_INTEGER_NBYTES + 1).to_bytes(4, "little") + bytes(999) + b".",
    "integer of 4 GiB": b"\x80\x02\x8b\xff\xff\xff\xff........",
    "bytes of 2 EiB": b"\x80\x04\x8e" + (2**61).to_bytes(8, "little") + b"........",
    "bytes of 16 EiB": b"\x80\x05\x96" + b"\xff" * 8 + b"........",
    "line that does not end": b"c" + b"x" * (MAX_LINE_NBYTES + 9),
    "name that is too long": b"c" + b"x" * MAX_SYMBOL_LENGTH + b"\nx\n........",
    "empty": b"",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_malformed_is_refused(name: str) -> None:
    with pytest.raises(NotThisFormat):
        read_pickle(REFUSED[name])


LIMIT: Final = 10_000


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (b"N0" * 3 * LIMIT, "opcodes"),
        (b"N" * 6 * LIMIT, "opcodes"),
        (b"J\xff\xff\xff\x7f" * 6 * LIMIT, "opcodes"),
        (b"N" + b"r\xff\xff\xff\xff" * 6 * LIMIT, "opcodes"),
        (b"N" + b"\x94" * 6 * LIMIT, "opcodes"),
        (b"N" + b"2" * 6 * LIMIT, "opcodes"),
        (b"(" * 2 * LIMIT, "objects"),
        (b"]" * 2 * LIMIT, "objects"),
        (b"}0" * 2 * LIMIT, "objects"),
        (b"N" + b"\x85" * 2 * LIMIT, "objects"),
        (b"NN" + b"\x86N" * 2 * LIMIT, "objects"),
        (b"N" + b"NR" * 2 * LIMIT, "objects"),
        (b"N" + b"Q" * 2 * LIMIT, "objects"),
    ],
    ids=range(13),
)
def test_what_takes_too_much_is_refused_with_little_memory(
    opcodes: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_reader, "MAX_OPCODES", 5 * LIMIT)
    monkeypatch.setattr(pickle_machine, "MAX_OBJECTS", LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(NotThisFormat, match=reason):
            read_pickle(b"\x80\x04" + opcodes + b".")
        _, peak_nbytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_nbytes < 700 * LIMIT


def test_long_names_count_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand strings a pickle could make a million names of a kibibyte each."""
    monkeypatch.setattr(pickle_machine, "MAX_OBJECTS", 40_000)
    strings = b"".join(
        b"X\xc8\x01\x00\x00" + b"%0456d" % i + b"r%c%c\x00\x00" % (i % 256, i // 256) for i in range(300)
    )
    pairs = b"".join(
        b"j%c%c\x00\x00j%c%c\x00\x00\x930" % (i % 256, i // 256, j % 256, j // 256)
        for i in range(300)
        for j in range(20)
    )
    with pytest.raises(NotThisFormat, match="objects"):
        read_pickle(b"\x80\x04" + strings + pairs + b"N.")


def test_deep_values_end_without_recursion() -> None:
    found, _ = read_pickle(b"\x80\x02N" + b"\x85" * 100_000 + b".")
    depth = 0
    while isinstance(found, tuple):
        (found,) = found
        depth += 1
    assert depth == 100_000


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for start in (b"", b"\x80\x02", b"\x80\x04](}("):
        try:
            read_pickle(start + content)
        except NotThisFormat as error:
            assert str(error)


SAMPLES: Final = [
    pickle.dumps([{"a": (1, 2.5)}, collections.OrderedDict(x=np.arange(3)), Words(["w"]), {1}, 1 << 99], protocol)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
]


@given(content=st.sampled_from(SAMPLES), data=st.data())
def test_a_damaged_pickle_is_read_or_refused(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + 1] = data.draw(
            st.binary(max_size=3) | st.sampled_from(list("(tuesabR\x81\x93h.")).map(str.encode)
        )
        if not damaged:
            return
    try:
        read_pickle(bytes(damaged))
    except NotThisFormat as error:
        assert str(error)
