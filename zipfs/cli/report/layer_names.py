"""The layer that a tensor belongs to, and its kind in there, from its name alone.

The number of the layer is the first one in a name that takes several values among the names that are alike before it:
in `0.auto_model.encoder.layer.3.attention.weight` the 3. Numbers behind it (experts, blocks within blocks) are taken
together as `*`. Pure; any thread may call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MAX_DIGITS: Final = 6
_MAX_PARTS: Final = 32
"""A name with more points than this is taken as it is."""


@dataclass(frozen=True, slots=True)
class LayerName:
    """The name of a tensor, taken apart.

    `stack` is what comes before the number of the layer, `layer` that number. Outside of layers `stack` is None.
    """

    stack: str | None
    layer: int
    kind: str


def name_layers(names: Sequence[str]) -> list[LayerName]:
    """Take the names of the tensors of one file apart."""
    split = [name.split(".") for name in names]
    values: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for parts in split:
        if len(parts) <= _MAX_PARTS:
            for at, part in enumerate(parts):
                if _is_number(part):
                    values[_alike(parts[:at])].add(part)
    return [_layer_name(name, parts, values) for name, parts in zip(names, split, strict=True)]


def _layer_name(name: str, parts: Sequence[str], values: dict[tuple[str, ...], set[str]]) -> LayerName:
    if len(parts) <= _MAX_PARTS:
        for at, part in enumerate(parts):
            if _is_number(part) and len(values[_alike(parts[:at])]) > 1:
                return LayerName(".".join(parts[:at]), int(part), _kind(parts[at + 1 :]))
    return LayerName(None, 0, _kind(parts) or name)


def _kind(parts: Sequence[str]) -> str:
    """Join what is left, without the word `weight`, which says nothing."""
    named = ["*" if _is_number(part) else part for part in parts]
    if len(named) > 1 and named[-1] == "weight":
        named.pop()
    return ".".join(named)


def _alike(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple("*" if _is_number(part) else part for part in parts)


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) <= _MAX_DIGITS
