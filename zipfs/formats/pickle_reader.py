"""Owns the reading of pickles into inert values: nothing that a pickle names is imported, called or looked up.

Opcodes of protocols 0 to 5 are interpreted. Globals become a Symbol. What a pickle would have made by a call becomes a
Record of that call, with what would have been put into it. Dicts are kept as the flat row of their keys and values, so
that no key of a pickle is ever hashed; sets are lists. Values may share parts and contain themselves, as in any pickle:
who walks over them must keep count, and must not recurse.

Bounded: MAX_OPCODES, MAX_OBJECTS and the limits below hold whatever a pickle says, and no length is believed before as
many bytes are there. Source: CPython's `pickletools.py`, which documents each opcode. Pure; a reader belongs to one
thread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.pickle_machine import CutOff, Machine
from zipfs.formats.pickle_values import Pairs, Persistent, Record

MAX_OPCODES: Final = 1 << 21
MAX_INTEGER_NBYTES: Final = 256
MAX_PROTOCOL: Final = 5

_MAX_DIGITS: Final = 640
_U32: Final = struct.Struct("<I")
_PUT1, _PUT4, _GET1, _STOP = b"qrh."
"""The opcodes of which pickles of tensors have most, and the last one: they have no handlers."""
_ARGUMENT_NBYTES: Final = 8
"""A handler that finds fewer bytes than this before the end may have found half an argument."""


def read_pickle(content: bytes, at: int = 0) -> tuple[object, int]:
    """Read the pickle that begins at `at`; return its value and where it ends.

    Raises CutOff if there are not enough bytes, NotThisFormat for all else that is wrong or too much.
    """
    machine = Machine(content, at)
    stack, memo, handlers = machine.stack, machine.memo, _HANDLERS
    try:
        for _ in range(MAX_OPCODES):
            opcode = content[at]
            at += 1
            if opcode == _PUT4:
                memo[_U32.unpack_from(content, at)[0]] = stack[-1]
                at += 4
            elif opcode == _GET1:
                stack.append(memo[content[at]])
                at += 1
            elif opcode == _PUT1:
                memo[content[at]] = stack[-1]
                at += 1
            elif opcode == _STOP:
                return stack.pop(), at
            else:
                machine.at = at
                handlers[opcode](machine)
                at = machine.at
    except (LookupError, ValueError, struct.error) as error:
        if max(at, machine.at) + _ARGUMENT_NBYTES >= len(content):
            raise CutOff("a pickle that is cut off") from error
        raise NotThisFormat(f"a pickle that is malformed: {type(error).__name__}") from error
    raise NotThisFormat(f"more than {MAX_OPCODES} opcodes in a pickle")


def _append_to(target: object, values: list[object]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, Record):
        if target.values is None:
            target.values = []
        target.values.extend(values)
    else:
        raise NotThisFormat("a pickle that appends to what is no list")


def _set_in(target: object, flat: list[object]) -> None:
    if len(flat) % 2:
        raise NotThisFormat("a pickle that sets a key to nothing")
    if isinstance(target, Pairs):
        target.flat.extend(flat)
    elif isinstance(target, Record):
        if target.flat is None:
            target.flat = []
        target.flat.extend(flat)
    else:
        raise NotThisFormat("a pickle that sets keys of what is no dict")


def _constant(value: object) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _made(make: Callable[[], object]) -> Callable[[Machine], None]:
    return lambda machine: machine.push(make())


def _unpacked(form: str) -> Callable[[Machine], None]:
    unpack, nbytes = struct.Struct(form).unpack_from, struct.calcsize(form)

    def handle(machine: Machine) -> None:
        machine.stack.append(unpack(machine.content, machine.at)[0])
        machine.at += nbytes

    return handle


def _byte(machine: Machine) -> None:
    machine.stack.append(machine.content[machine.at])
    machine.at += 1


def _sized(nbytes: int, decode: Callable[[bytes], object] | None) -> Callable[[Machine], None]:
    """Return the handler of bytes that are preceded by their number, in `nbytes` bytes."""

    def handle(machine: Machine) -> None:
        at = machine.at + nbytes
        machine.at = end = at + int.from_bytes(machine.content[machine.at : at], "little")
        if end > len(machine.content):
            raise CutOff("a string that is cut off")
        value = machine.content[at:end]
        machine.stack.append(value if decode is None else decode(value))

    return handle


def _text(value: bytes) -> str:
    return str(value, "utf-8", "surrogatepass")


def _latin(value: bytes) -> str:
    return value.decode("latin-1")


def _integer(value: bytes) -> int:
    if len(value) > MAX_INTEGER_NBYTES:
        raise NotThisFormat(f"an integer of {len(value)} bytes in a pickle")
    return int.from_bytes(value, "little", signed=True)


def _decimal(machine: Machine) -> None:
    line = machine.line().removesuffix(b"L")
    if len(line) > _MAX_DIGITS:
        raise NotThisFormat(f"an integer of {len(line)} digits in a pickle")
    machine.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))


def _put_line(machine: Machine) -> None:
    machine.memo[int(machine.line()[:_MAX_DIGITS])] = machine.stack[-1]


def _get_line(machine: Machine) -> None:
    machine.stack.append(machine.memo[int(machine.line()[:_MAX_DIGITS])])


def _get4(machine: Machine) -> None:
    at = machine.at
    machine.at = at + 4
    machine.stack.append(machine.memo[int.from_bytes(machine.content[at : at + 4], "little")])


def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _mark(machine: Machine) -> None:
    machine.count()
    machine.marks.append(len(machine.stack))


def _pop(machine: Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _tuple(machine: Machine) -> None:
    machine.push(tuple(machine.marked()))


def _tuple_of(nitems: int) -> Callable[[Machine], None]:
    def handle(machine: Machine) -> None:
        stack = machine.stack
        if len(stack) < nitems:
            raise NotThisFormat("a tuple of more than there is")
        value = tuple(stack[-nitems:])
        del stack[-nitems:]
        machine.push(value)

    return handle


def _setitem(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_in(machine.stack[-1], [key, value])


def _setitems(machine: Machine) -> None:
    flat = machine.marked()
    _set_in(machine.stack[-1], flat)


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    _append_to(machine.stack[-1], [value])


def _appends(machine: Machine) -> None:
    values = machine.marked()
    _append_to(machine.stack[-1], values)


def _dict(machine: Machine) -> None:
    made = Pairs([])
    _set_in(made, machine.marked())
    machine.push(made)


def _global(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.stack.append(machine.symbol(_text(module), _text(name)))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise NotThisFormat("a global that is named by no strings")
    machine.stack.append(machine.symbol(module, name))


def _extension(nbytes: int) -> Callable[[Machine], None]:
    def handle(machine: Machine) -> None:
        machine.stack.append(machine.symbol("extension", str(int.from_bytes(machine.take(nbytes), "little"))))

    return handle


def _reduce(machine: Machine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, arguments)


def _new_with_keywords(machine: Machine) -> None:
    keywords, arguments, function = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.call(function, (arguments, keywords))


def _instance(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.call(machine.symbol(_text(module), _text(name)), tuple(machine.marked()))


def _object(machine: Machine) -> None:
    function, *arguments = machine.marked()
    machine.call(function, tuple(arguments))


def _build(machine: Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    if not isinstance(target, Record):
        raise NotThisFormat("a pickle that gives state to what has none")
    target.state = state


def _proto(machine: Machine) -> None:
    version = machine.content[machine.at]
    machine.at += 1
    if version > MAX_PROTOCOL:
        raise NotThisFormat(f"protocol {version} of pickle")


def _ignore(nbytes: int) -> Callable[[Machine], None]:
    def handle(machine: Machine) -> None:
        machine.at += nbytes

    return handle


def _unknown(machine: Machine) -> None:
    raise NotThisFormat(f"no opcode of a pickle: {machine.content[machine.at - 1]}")


_KNOWN: Final[dict[str, Callable[[Machine], None]]] = {
    "\x80": _proto,
    "\x81": _reduce,
    "\x82": _extension(1),
    "\x83": _extension(2),
    "\x84": _extension(4),
    "\x85": _tuple_of(1),
    "\x86": _tuple_of(2),
    "\x87": _tuple_of(3),
    "\x88": _constant(True),
    "\x89": _constant(False),
    "\x8a": _sized(1, _integer),
    "\x8b": _sized(4, _integer),
    "\x8c": _sized(1, _text),
    "\x8d": _sized(8, _text),
    "\x8e": _sized(8, None),
    "\x8f": _made(list),
    "\x90": _appends,
    "\x91": lambda machine: machine.push(machine.marked()),
    "\x92": _new_with_keywords,
    "\x93": _stack_global,
    "\x94": _memoize,
    "\x95": _ignore(8),
    "\x96": _sized(8, None),
    "\x97": lambda machine: machine.push(Persistent("buffer")),
    "\x98": _ignore(0),
    "(": _mark,
    ")": _constant(()),
    "]": _made(list),
    "}": _made(lambda: Pairs([])),
    "0": _pop,
    "1": lambda machine: machine.marked().clear(),
    "2": lambda machine: machine.stack.append(machine.stack[-1]),
    "B": _sized(4, None),
    "C": _sized(1, None),
    "F": lambda machine: machine.stack.append(float(machine.line())),
    "G": _unpacked(">d"),
    "I": _decimal,
    "J": _unpacked("<i"),
    "K": _byte,
    "L": _decimal,
    "M": _unpacked("<H"),
    "N": _constant(None),
    "P": lambda machine: machine.push(Persistent(_text(machine.line()))),
    "Q": lambda machine: machine.push(Persistent(machine.stack.pop())),
    "R": _reduce,
    "S": lambda machine: machine.stack.append(_latin(machine.line()[1:-1])),
    "T": _sized(4, _latin),
    "U": _sized(1, _latin),
    "V": lambda machine: machine.stack.append(str(machine.line(), "raw-unicode-escape")),
    "X": _sized(4, _text),
    "a": _append,
    "b": _build,
    "c": _global,
    "d": _dict,
    "e": _appends,
    "g": _get_line,
    "i": _instance,
    "j": _get4,
    "l": lambda machine: machine.push(machine.marked()),
    "o": _object,
    "p": _put_line,
    "s": _setitem,
    "t": _tuple,
    "u": _setitems,
}
_HANDLERS: Final = tuple(_KNOWN.get(chr(opcode), _unknown) for opcode in range(256))
