"""Files that try to confuse a reader of safetensors, and valid ones to compare with.

Owns the making of such files as bytes; says nothing of what should come of them. Names are unique and fit a file name.
The attacks that the safetensors repository publishes under `attacks/` are among them, in smaller sizes.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator, Sequence

LENGTH_NBYTES = 8
MAX_HEADER_NBYTES = 100_000_000

BITS_OF_DTYPE = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
}


def container(header: bytes | str, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header and data; `length` is what its first eight bytes claim, the truth by default."""
    raw = header.encode() if isinstance(header, str) else header
    return (len(raw) if length is None else length).to_bytes(LENGTH_NBYTES, "little") + raw + data


def entry(dtype: str, shape: Sequence[int], begin: int, end: int) -> dict[str, object]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def pattern(nbytes: int) -> bytes:
    """Bytes that differ from their neighbours, so that a shifted tensor shows."""
    return bytes((7 * i + i // 251) % 256 for i in range(nbytes))


def valid_files() -> Iterator[tuple[str, bytes]]:
    """Files that any reader must take."""
    yield "no-tensors", container("{}")
    yield "only-metadata", container('{"__metadata__":{"format":"pt"}}')
    for dtype, bits in BITS_OF_DTYPE.items():
        yield f"one-{dtype}", container(json.dumps({"w": entry(dtype, [4, 6], 0, 3 * bits)}), pattern(3 * bits))
    yield "scalar", container(json.dumps({"w": entry("F32", [], 0, 4)}), pattern(4))
    yield (
        "odd-sizes",
        container(
            json.dumps(
                {"a": entry("U8", [13], 0, 13), "b": entry("F32", [3], 13, 25), "c": entry("BOOL", [1], 25, 26)}
            ),
            pattern(26),
        ),
    )
    yield (
        "empty-tensors",
        container(
            json.dumps(
                {
                    "first": entry("F32", [0], 0, 0),
                    "a": entry("U8", [5], 0, 5),
                    "between": entry("I64", [3, 0, 2], 5, 5),
                    "b": entry("BF16", [2], 5, 9),
                    "last": entry("F4", [0, 1], 9, 9),
                }
            ),
            pattern(9),
        ),
    )
    yield "all-empty", container(json.dumps({"a": entry("F32", [0], 0, 0), "b": entry("F64", [2, 0], 0, 0)}))
    yield (
        "unsorted",
        container(
            json.dumps({"z": entry("U8", [2], 4, 6), "a": entry("F32", [1], 0, 4), "m": entry("U8", [1], 6, 7)}),
            pattern(7),
        ),
    )
    yield "no-alignment", container(json.dumps({"w" * 3: entry("F64", [2], 0, 16)}), pattern(16))


def _described(
    dtype: str = '"F32"', shape: str = "[2]", offsets: str = "[0,8]", more: str = "", nbytes: int = 8
) -> bytes:
    return container(f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}}}', pattern(nbytes))


_GOOD = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def _frames() -> Iterator[tuple[str, bytes]]:
    good = f'{{"a":{_GOOD}}}'
    data = pattern(8)
    for nbytes in range(10):
        yield f"zeros-{nbytes}", bytes(nbytes)
    yield "attack-length-beyond-file", container(good, data, 1000)
    for length in (0, 1, 2, len(good) - 1, len(good) + 1, len(good) + 8, len(good) + 9, MAX_HEADER_NBYTES + 1):
        yield f"length-{length}", container(good, data, length)
    for length in (2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1):
        yield f"length-{length}", container(good, data, length)
    yield "byte-missing", container(good, data[:-1])
    yield "byte-too-many", container(good, data + b"\0")
    yield "no-data", container(good)
    yield "cut-header", container(good)[:30]
    for name, lead in {
        "space": b" ",
        "newlines": b"\n\r\t ",
        "bom": b"\xef\xbb\xbf",
        "nul": b"\0",
        "vt": b"\v",
    }.items():
        yield f"before-{name}", container(lead + good.encode(), data)
        yield f"after-{name}", container(good.encode() + lead, data)
        yield f"only-{name}", container(lead)
    yield "many-spaces", container(" " * 5000 + good, data)
    for number, other in enumerate(("}", "{}", ",", good, "null", "//", "[")):
        yield f"garbage-behind-{number}", container(good + other, data)
    for number, other in enumerate(("[]", "null", "true", "1", '"a"', "", "{", "[{}]", "{,}", "{]", "{{}}", "{}{}")):
        yield f"not-an-object-{number}", container(other)


def _encodings() -> Iterator[tuple[str, bytes]]:
    sequences = (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"\x7f")
    for sequence in sequences:
        yield f"name-bytes-{sequence.hex()}", container(b'{"%s":%s}' % (sequence, _GOOD.encode()), pattern(8))
    names = (
        "\\ud800", "\\udc00", "\\ud83d\\ude00", "\\ude00\\ud83d", "\\ud83dx", "\\ud83d\\n", "\\ud83d\\u0041", "\\u0000",
        "\\ud83d\\udbff", "\\uD83D\\uDE00\\uD83D", "\\u00g0", "\\u00", "\\x41", "\\/", "\\'", "\0", "\n", "\x1f",
        "\x7f", "", "\\", "\\\\", "\\u0061" * 70, "\\n" * 3000, "\\ud83d\\ude00" * 1500,
    )  # fmt: skip
    for number, name in enumerate(names):
        yield f"name-{number}", container(f'{{"{name}":{_GOOD}}}', pattern(8))
        yield f"metadata-key-{number}", container(f'{{"__metadata__":{{"{name}":"x"}}}}')
        yield f"metadata-value-{number}", container(f'{{"__metadata__":{{"x":"{name}","y":"{name}"}}}}')
        yield f"field-{number}", _described(more=f',"{name}":"{name}"')


def _fields() -> Iterator[tuple[str, bytes]]:
    dtypes = (
        '{"F32":null}', '{ "F32" : null }', '{"F32":{}}', '{"F32":[]}', '{"F32":0}', '{"F32":null,"F32":null}', "{}",
        '["F32"]', "17", "null", '"f32"', '"F32 "', '"F128"', '""', '"\\u00463\\u0032"', '"float32"', '{"F33":null}',
    )  # fmt: skip
    for number, dtype in enumerate(dtypes):
        yield f"dtype-{number}", _described(dtype=dtype)
    shapes = (
        "[2.0]", "[2e0]", "[-2]", "[-0]", "[+2]", "[02]", '["2"]', "[2,1]", "[2,]", "[,2]", "[ 2 , 1 ]", "[]", "{}",
        "null", "[null]", "[true]", "2", '"2"', "[2,1.]", "[[2]]", "[18446744073709551616]", "[18446744073709551615]",
        "[1e400]", "[NaN]", "[2 1]", "[0x2]", "[2_0]", "[\u0662]",
    )  # fmt: skip
    for number, shape in enumerate(shapes):
        yield f"shape-{number}", _described(shape=shape)
        yield f"offsets-{number}", _described(offsets=shape)
    for number, shape in enumerate(
        (
            f"[0,{2**64 - 1},{2**64 - 1}]",
            f"[{2**64 - 1},{2**64 - 1},0]",
            f"[{2**64 - 1},0]",
            f"[{2**32},{2**32}]",
            f"[0,{2**64}]",
        )
    ):
        yield f"overflow-{number}", _described(shape=shape, offsets="[0,0]", nbytes=0)
    yield "overflow-bits", _described(dtype='"F64"', shape=f"[{2**61}]", offsets=f"[0,{2**64 - 1}]")
    wrong_offsets = (
        "[0,8,0]",
        "[0]",
        "[8,0]",
        "[0,-8]",
        "[-8,0]",
        "[0.0,8]",
        '{"0":0,"1":8}',
        "[1,9]",
        "[0,7]",
        "[0,9]",
    )
    for number, offsets in enumerate((*wrong_offsets, f"[0,{2**64 - 1}]", f"[{2**64 - 8},{2**64}]", "[0,16]")):
        yield f"wrong-offsets-{number}", _described(offsets=offsets)
    for dtype, bits in (("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6)):
        for nitems in range(1, 9):
            nbytes = nitems * bits // 8
            yield f"bits-{dtype}-{nitems}", _described(f'"{dtype}"', f"[{nitems}]", f"[0,{nbytes}]", nbytes=nbytes)
    repeated = (
        ',"dtype":"F32"',
        ',"shape":[2]',
        ',"data_offsets":[0,8]',
        ',"x":1,"x":2',
        ',"dtype2":"F32"',
        ",",
        ',"":0',
    )
    for number, more in enumerate(repeated):
        yield f"more-fields-{number}", _described(more=more)
    entries = (
        '["F32",[2],[0,8]]', '["F32",[2],[0,8],1]', '["F32",[2]]', '[{"F32":null},[2],[0,8]]', '["F32",[2],[0,8],]',
        "[]", "{}", "null", '"F32"', "1", '{"dtype":"F32","shape":[2]}', '{"dtype":"F32","data_offsets":[0,8]}',
        '{"shape":[2],"data_offsets":[0,8]}', '{"\\u0064type":"F32","shape":[2],"data_offsets":[0,8]}',
        '{"data_offsets":[0,8],"x":{},"shape":[2],"y":[{"z":[]}],"dtype":"F32"}',
    )  # fmt: skip
    for number, body in enumerate(entries):
        yield f"entry-{number}", container(f'{{"a":{body}}}', pattern(8))


def _numbers() -> Iterator[tuple[str, bytes]]:
    numbers = (
        "1", "-1", "-0", "0", "00", "01", "-", "+1", ".5", "1.", "1.5", "1e5", "1E+5", "1e+", "1e", "-1.5e-3", "1e999",
        "1e307", "-1e999", "1e-999", "0e999999999999", "1e999999999999", "1e-999999999999", "0.0e99999999999999999999",
        "NaN", "Infinity", "-Infinity", "nan", "9" * 400, "9" * 300, "9" * 5000 + "e-5000", "0." + "0" * 400 + "1e500",
        "0x10", "1_0", "true", "false", "null", "True", "None", "tru", "nullx", "undefined", "'x'", "/**/1", "1 2",
    )  # fmt: skip
    for number, text in enumerate(numbers):
        yield f"number-{number}", _described(more=f',"x":{text}')
        yield f"numbers-{number}", _described(more=f',"x":[{text},{{"y": {text} }}]')
    for number, text in enumerate(
        ("[1,]", "{,}", '{"a":1,}', "[,1]", '{"a"}', "{1:2}", "[1}", '{"a":1]', "[", '{"a":', "]")
    ):
        yield f"broken-value-{number}", _described(more=f',"x":{text}')
    for depth in (1, 2, 124, 125, 126, 127, 128, 129, 1000, 100_000):
        yield f"deep-lists-{depth}", _described(more=f',"x":{"[" * depth}{"]" * depth}')
        yield f"deep-objects-{depth}", _described(more=',"x":' + '{"a":' * depth + "1" + "}" * depth)
        yield f"deep-open-{depth}", _described(more=f',"x":{"[" * depth}')
        yield f"deep-top-{depth}", container("[" * depth + "]" * depth)


def _sets_of_tensors() -> Iterator[tuple[str, bytes]]:
    a, b = entry("U8", [4], 0, 4), entry("U8", [4], 4, 8)
    data = pattern(8)
    second_entries = {
        "overlap": entry("U8", [4], 2, 6),
        "overlap-to-end": entry("U8", [6], 2, 8),
        "same-range": a,
        "inside": entry("U8", [2], 1, 3),
        "hole": entry("U8", [3], 5, 8),
        "beyond-end": entry("U8", [5], 4, 9),
        "short-of-end": entry("U8", [3], 4, 7),
        "backwards": entry("U8", [0], 8, 4),
        "empty-in-first": entry("U8", [0], 2, 2),
        "empty-at-end": entry("U8", [0], 8, 8),
        "empty-behind-end": entry("U8", [0], 9, 9),
    }
    for name, second in second_entries.items():
        yield f"two-{name}", container(json.dumps({"a": a, "b": second}), data)
        yield f"two-reversed-{name}", container(json.dumps({"b": second, "a": a}), data)
        yield f"three-{name}", container(json.dumps({"a": a, "b": b, "c": second}), data)
    short, wrong, long = (json.dumps(e) for e in (a, entry("U8", [-4], 0, 4), entry("U8", [8], 0, 8)))
    for name, pair in {"good-last": (short, long), "good-first": (long, short), "malformed": (wrong, long)}.items():
        yield f"name-twice-{name}", container(f'{{"a":{pair[0]},"a":{pair[1]}}}', data)
    yield "name-twice-spelled-apart", container(f'{{"a":{short},"\\u0061":{long}}}', data)
    tensors = {f"weight_{i}": entry("F32", [2, 2], 0, 16) for i in range(20_000)}
    yield "attack-overlapping-small", container(json.dumps(tensors), bytes(16))
    tensors = {f"weight_{i}": entry("F32", [200, 200], 0, 160_000) for i in range(1000)}
    yield "attack-overlapping-large", container(json.dumps(tensors), bytes(160_000))


def _metadata() -> Iterator[tuple[str, bytes]]:
    values = (
        "null", "{}", "[]", '"x"', "1", '{"a":1}', '{"a":null}', '{"a":{}}', '{"a":["b"]}', '{"a":"b","a":"c"}',
        '{"a":"b",}', '{,"a":"b"}', '{"a" : "b" , "c":"d" }', '{"a":"b" "c":"d"}', '{"a"}', '{"a":"b"', "{a:b}",
        '{"dtype":"F32","shape":"[2]","data_offsets":"[0,8]"}', '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}',
        "{" + '"k":"v",' * 3000 + '"k":"v"}', "{" + '"k":"v",' * 3000 + '"k":1}',
        "{" + '"\\n":"v", ' * 1024 + '"k":"v"}',
    )  # fmt: skip
    for number, value in enumerate(values):
        yield f"metadata-{number}", container(f'{{"__metadata__":{value}}}')
        yield f"metadata-last-{number}", container(f'{{"a":{_GOOD},"__metadata__":{value}}}', pattern(8))
    yield "metadata-twice", container('{"__metadata__":null,"__metadata__":null}')
    yield "metadata-twice-spelled-apart", container('{"__metadata__":{},"\\u005f_metadata__":{}}')
    yield "metadata-tensor-like", container(f'{{"__metadata__ ":{_GOOD}}}', pattern(8))


def _other_formats() -> Iterator[tuple[str, bytes]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", pickle.dumps({"weight": [0.0] * 4}))
        bomb.writestr("archive/data/0", bytes(1_000_000))
    yield "attack-zip-bomb", archive.getvalue()
    yield "attack-pickle", b"\x80\x04cbuiltins\neval\n(V__import__('os').getpid()\ntR."
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(88)
    yield "gguf", b"GGUF\x03\0\0\0" + bytes(16)
    yield "text", b"{}\n"
    yield "json", b'{"a": 1, "b": [1, 2, 3]}'


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Small files (each under 2 MB): malformed, contradictory, or valid in a way that few expect."""
    for source in (_frames, _encodings, _fields, _numbers, _sets_of_tensors, _metadata, _other_formats):
        yield from source()


def costly_headers(nbytes: int) -> Iterator[tuple[str, bytes]]:
    """Headers of about `nbytes` bytes that a careless parser takes minutes, gigabytes or a deep stack to read."""
    yield "open-lists", b'{"a":' + b"[" * nbytes
    yield "open-objects", b'{"a":{"x":' + b'{"":' * (nbytes // 4)
    yield "empty-lists", b'{"a":{"x":[' + b"[]," * (nbytes // 3)
    yield "spaced-numbers", b'{"a":{"x":[' + b"1 ,  " * (nbytes // 5)
    yield "metadata-pairs", b'{"__metadata__":{"":""' + b',"":""' * (nbytes // 6) + b"}}"
    yield "metadata-wrong-at-end", b'{"__metadata__":{"":""' + b',"":""' * (nbytes // 6) + b',"":0}}'
    yield "metadata-escapes", b'{"__metadata__":{"":"' + b"\\n" * (nbytes // 2) + b'"}}'
    yield (
        "metadata-long-escapes",
        (b'{"__metadata__":{"":""' + (b',"":"' + b"\\n" * 65 + b'"') * (nbytes // 136) + b"}}"),
    )
    yield "endless-string", b'{"__metadata__":{"":"' + b"\\\\n" * (nbytes // 3)
    yield "astral-name", b'{"' + "\U0001f600".encode() * (nbytes // 4) + b'":0}'
    yield "escaped-name", b'{"' + b"\\n" * (nbytes // 2) + b'":0}'
    yield "spaces", b" " * nbytes
    yield "nuls", b"{" + bytes(nbytes)
    yield "digits", b'{"a":{"x":' + b"9" * nbytes
    yield "digits-in-shape", b'{"a":{"shape":[' + b"9" * nbytes
    yield "high-rank", b'{"a":{"shape":[' + b"0," * (nbytes // 2)
    yield "one-name", b"{" + b'"":["U8",[0],[0,0]],' * (nbytes // 21) + b'"":0}'
