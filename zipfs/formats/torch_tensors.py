"""Owns which tensors a pickle of torch describes: where in which storage they lie, and what they are called.

Tensors are found wherever they are in what was pickled: in dicts, lists, attributes, wrappers (parameters, DTensor,
sparse and quantised ones) and objects of any class. A tensor is called by the way to it: keys and attributes, joined by
dots. What `torch.nn.Module` and DTensor put between is left out, so that a module that was pickled whole has the names
of its state dict. Of several ways to one object the first counts. Pure; any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from zipfs.errors import NotThisFormat
from zipfs.formats.pickle_values import Pairs, Persistent, Record, Symbol

MAX_NAME_LENGTH: Final = 1024
MAX_NAMES_LENGTH: Final = 1 << 24
"""Characters of all names of a pickle; tensors beyond are called by their storage."""
MAX_AXES: Final = 64
MAX_WAITING: Final = 1 << 20
MAX_DEPTH: Final = 200
"""Names longer than so many steps are not told."""

_USIZE_END: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class ItemType:
    """A type of items of torch: `nbytes` each, of which the codec sees items of `dtype`, `parts` of them."""

    dtype: str
    nbytes: int
    parts: tuple[int, ...] = ()


ITEM_TYPES: Final = {
    "float64": ItemType("F64", 8),
    "float32": ItemType("F32", 4),
    "float16": ItemType("F16", 2),
    "bfloat16": ItemType("BF16", 2),
    "int64": ItemType("I64", 8),
    "int32": ItemType("I32", 4),
    "int16": ItemType("I16", 2),
    "int8": ItemType("I8", 1),
    "uint64": ItemType("U64", 8),
    "uint32": ItemType("U32", 4),
    "uint16": ItemType("U16", 2),
    "uint8": ItemType("U8", 1),
    "bool": ItemType("BOOL", 1),
    "complex32": ItemType("F16", 4, (2,)),
    "complex64": ItemType("C64", 8),
    "complex128": ItemType("F64", 16, (2,)),
    "float8_e4m3fn": ItemType("F8_E4M3", 1),
    "float8_e4m3fnuz": ItemType("F8_E4M3FNUZ", 1),
    "float8_e5m2": ItemType("F8_E5M2", 1),
    "float8_e5m2fnuz": ItemType("F8_E5M2FNUZ", 1),
    "float8_e8m0fnu": ItemType("F8_E8M0", 1),
    "float4_e2m1fn_x2": ItemType("F4", 1, (2,)),
    "qint8": ItemType("I8", 1),
    "quint8": ItemType("U8", 1),
    "qint32": ItemType("I32", 4),
    "quint4x2": ItemType("U8", 1),
    "quint2x4": ItemType("U8", 1),
}
"""By the name that torch has for it."""

_STORAGES: Final = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}
_MODULES: Final = ("torch", "torch.storage", "torch.cuda")


@dataclass(frozen=True, slots=True)
class StorageUse:
    """A storage as a pickle names it: its key, its items (None if it says only bytes), and how many of them.

    A legacy file has views of storages besides: `first_item` is where in the storage this one begins.
    """

    key: str
    items: ItemType | None
    count: int
    first_item: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage: `offset`, `shape` and `strides` count items. `name` is "" where there is no way to tell."""

    name: str
    storage: StorageUse
    items: ItemType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The tensors of a pickle, and every storage that it names, by key, as it is named first."""

    tensors: tuple[Tensor, ...]
    storages: dict[str, StorageUse]


class _Path:
    """The way to a value: the way to what holds it, and one step more."""

    __slots__ = ("depth", "parent", "step")

    def __init__(self, parent: _Path | None, step: str) -> None:
        self.parent = parent
        self.step = step
        self.depth: int = parent.depth + 1 if parent is not None else 0

    def name(self) -> str:
        """Join the steps; "" if they are too many or too long."""
        if self.depth > MAX_DEPTH:
            return ""
        steps: list[str] = []
        path: _Path | None = self
        length = 0
        while path is not None:
            if path.step:
                steps.append(path.step)
                length += len(path.step) + 1
                if length > MAX_NAME_LENGTH:
                    return ""
            path = path.parent
        return ".".join(reversed(steps)).encode("utf-8", "backslashreplace").decode()


_PLAIN_TENSORS: Final = frozenset(
    f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
)
_QUANTISED: Final = "torch._utils._rebuild_qtensor"
_TYPED: Final = frozenset(("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2"))
_WRAPPERS: Final = frozenset(("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"))
_DTYPE_AT: Final = 6
_QUANTISER_AT: Final = 4
_WRAPPER_ARGUMENTS: Final = 4
_ATTRIBUTES_AND_SLOTS: Final = 2
_UNNAMED_STEPS: Final = frozenset(("_parameters", "_buffers", "_modules", "_local_tensor"))


def find_tensors(value: object, root: str = "") -> Found:
    """Return all tensors in what was pickled, their names below `root`, in the order in which the pickle has them.

    Raises NotThisFormat if that takes too much.
    """
    walk = _Walk()
    walk.over(value, _Path(None, root))
    return Found(tuple(walk.tensors), walk.storages)


class _Walk:
    """Visits every container once, without recursion, and takes no other steps that grow with what a pickle shares."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.storages: dict[str, StorageUse] = {}
        self._seen: set[int] = set()
        self._waiting: list[tuple[object, _Path]] = []
        self._names_length = 0

    def over(self, value: object, path: _Path) -> None:
        waiting, seen = self._waiting, self._seen
        waiting.append((value, path))
        while waiting:
            value, path = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            start = len(waiting)
            self._visit(value, path)
            if len(waiting) > MAX_WAITING:
                raise NotThisFormat(f"more than {MAX_WAITING} values in a pickle that are yet to be looked at")
            waiting[start:] = reversed(waiting[start:])

    def _visit(self, value: object, path: _Path) -> None:
        if isinstance(value, Record):
            self._visit_call(value.function, value.arguments, path)
            if value.flat is not None:
                self._add_pairs(value.flat, path)
            if value.values is not None:
                self._add_row(value.values, path)
            if value.state is not None:
                self._add_state(value.state, path)
        elif isinstance(value, Pairs):
            self._add_pairs(value.flat, path)
        elif isinstance(value, (tuple, list)):
            self._add_row(value, path)
        elif isinstance(value, Persistent):
            self._storage(value)

    def _visit_call(self, function: object, arguments: object, path: _Path) -> None:
        name = function.name if isinstance(function, Symbol) else ""
        row = arguments if isinstance(arguments, (tuple, list)) else ()
        if name in _PLAIN_TENSORS or name == _QUANTISED:
            self._note_tensor(name, row, path)
        elif name in _TYPED and len(row) >= 4:
            self._add_state(row[3], path)
            self._visit_call(row[0] if _is_rebuild(row[0]) else None, row[2], path)
        elif name in _WRAPPERS and row:
            self._waiting.append((row[0], path))
            for more in row[1:_WRAPPER_ARGUMENTS]:
                self._add_state(more, path)
        else:
            self._waiting.append((row, path))

    def _add(self, value: object, path: _Path, step: object) -> None:
        if isinstance(value, (Record, Pairs, tuple, list, Persistent)) and value != ():
            text = step if isinstance(step, str) else str(step) if isinstance(step, int) else "?"
            self._waiting.append((value, path if text in _UNNAMED_STEPS else _Path(path, text)))

    def _add_row(self, row: Iterable[object], path: _Path) -> None:
        for index, value in enumerate(row):
            self._add(value, path, index)

    def _add_pairs(self, flat: list[object], path: _Path) -> None:
        for at in range(0, len(flat) - 1, 2):
            self._add(flat[at + 1], path, flat[at])

    def _add_state(self, state: object, path: _Path) -> None:
        """Add what an object is told to become: mostly its attributes, or a pair of those and its slots."""
        parts = state if isinstance(state, tuple) and len(state) == _ATTRIBUTES_AND_SLOTS else (state,)
        for part in parts:
            if isinstance(part, (Record, Pairs, tuple, list)):
                self._waiting.append((part, path))

    def _storage(self, value: object) -> StorageUse | None:
        use = _storage_use(value)
        if use is None:
            return None
        self.storages.setdefault(use.key, use)
        return use

    def _note_tensor(self, function: str, row: tuple[object, ...] | list[object], path: _Path) -> None:
        storage = self._storage(row[0]) if row else None
        if storage is None or len(row) < _QUANTISER_AT:
            return
        items = storage.items
        if function.endswith("_v3") and len(row) > _DTYPE_AT:
            items = item_type(row[_DTYPE_AT])
        offset, shape, strides = _count(row[1]), _counts(row[2]), _counts(row[3])
        if function == _QUANTISED and len(row) > _QUANTISER_AT:
            self._add(row[_QUANTISER_AT], path, "quantizer")
        if items is None or offset is None or shape is None or strides is None or len(shape) != len(strides):
            return
        name = path.name() if self._names_length < MAX_NAMES_LENGTH else ""
        self._names_length += len(name)
        self.tensors.append(Tensor(name, storage, items, offset, shape, strides))


def item_type(symbol: object) -> ItemType | None:
    """Return what items a symbol `torch.float32` or the like names; None if it is none that is known."""
    if not isinstance(symbol, Symbol):
        return None
    return ITEM_TYPES.get(symbol.name.removeprefix("torch."))


def _is_rebuild(function: object) -> bool:
    return isinstance(function, Symbol) and (function.name in _PLAIN_TENSORS or function.name == _QUANTISED)


def _storage_use(value: object) -> StorageUse | None:
    """Take `("storage", class, key, place, number of items)`, and a legacy file's `(key, offset, size)` of a view."""
    if not isinstance(value, Persistent) or not isinstance(value.id, tuple) or len(value.id) < 5:
        return None
    kind, storage_class, key, _, count, *more = value.id
    number = _count(count)
    if kind != "storage" or not isinstance(key, (str, int)) or number is None:
        return None
    first_item = 0
    if more and isinstance(more[0], tuple) and len(more[0]) == 3:
        first_item = _count(more[0][1]) or 0
    return StorageUse(str(key)[:MAX_NAME_LENGTH], _storage_items(storage_class), number, first_item)


def _storage_items(storage_class: object) -> ItemType | None:
    if not isinstance(storage_class, Symbol):
        return None
    module, _, name = storage_class.name.rpartition(".")
    return ITEM_TYPES.get(_STORAGES.get(name, "")) if module in _MODULES else None


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _USIZE_END else None


def _counts(value: object) -> tuple[int, ...] | None:
    """Take a shape or strides: a tuple, a list, or a `torch.Size` of one. None if it is anything else."""
    if isinstance(value, Record) and isinstance(value.arguments, tuple) and len(value.arguments) == 1:
        value = value.arguments[0]
    if not isinstance(value, (tuple, list)) or len(value) > MAX_AXES:
        return None
    for number in value:
        if type(number) is not int or not 0 <= number < _USIZE_END:
            return None
    return tuple(value)
