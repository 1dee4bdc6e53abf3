"""Drawings of families: a circle for each model, its area as its size, joined to the model that it rests on most.

The root is in the middle, the others lie around it, those with the strongest ties nearest: few in a ring, many like the
seeds of a sunflower (H. Vogel, A Better Way to Construct the Sunflower Head, 1979). Pure and deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from zipfs.cli.render.model_tree import last_part, model_name
from zipfs.cli.render.units import ratio, size
from zipfs.cli.report.markup import attribute, brief
from zipfs.inspect.families import Family, Member

NODES_AT_MOST: Final = 150
"""Models of one family that are drawn."""
_RING: Final = 9
LABELLED: Final = _RING + 1
"""Models of a family up to which they are named in its drawing."""
_GOLDEN_ANGLE: Final = math.pi * (3 - math.sqrt(5))
_LARGEST: Final = 15.0
_SMALLEST: Final = 3.0
_MARGIN: Final = 4.0
_LABEL_WIDTH: Final = 118.0
_LABEL_HEIGHT: Final = 16.0
_LABEL_LENGTH: Final = 17
_STRONG: Final = 0.1
"""Share of a model's tensors from which on what else it rests on is drawn, too."""
_SHADES: Final = ((0.02, 1), (0.05, 3), (0.1, 5), (0.25, 6), (0.5, 8), (math.inf, 10))
"""Added bytes over size up to which a model has which colour."""


def draw(family: Family) -> str:
    """Draw a family as SVG."""
    members = family.members[:NODES_AT_MOST]
    radii = _radii(members)
    places = _places(radii)
    labelled = len(members) <= LABELLED
    width = max(abs(x) + radius for (x, _), radius in zip(places, radii, strict=True)) + _MARGIN
    height = max(abs(y) + radius for (_, y), radius in zip(places, radii, strict=True)) + _MARGIN
    if labelled:
        width, height = width + _LABEL_WIDTH, height + _LABEL_HEIGHT
    index = {member.path: at for at, member in enumerate(members)}
    ties, others = [], []
    for at, member in enumerate(members):
        if member.parent is not None:
            ties.append(_line(places[at], places[index[member.parent]]))
        for path, nbytes in member.rests_on:
            is_parent = path == member.parent
            if path in index and not is_parent and nbytes >= _STRONG * member.tensor_nbytes:
                others.append(_line(places[at], places[index[path]]))
    circles = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="h{_shade(member)}{" root" if not at else ""}">'
        f"<title>{_title(member)}</title></circle>"
        for at, (member, radius, (x, y)) in enumerate(zip(members, radii, places, strict=True))
    )
    labels = "".join(_labels(members, radii, places)) if labelled else ""
    return (
        f'<svg viewBox="{-width:.1f} {-height:.1f} {2 * width:.1f} {2 * height:.1f}" width="{2 * width:.0f}"'
        f' height="{2 * height:.0f}" role="img" aria-label="{attribute(model_name(family.root.path))}">'
        f'<path class="tie" d="{"".join(ties)}"/><path class="tie other" d="{"".join(others)}"/>{circles}{labels}</svg>'
    )


def _radii(members: tuple[Member, ...]) -> list[float]:
    most = max(*(member.nbytes for member in members), 1)
    largest = max(_SMALLEST + 1, min(_LARGEST, 110 / math.sqrt(len(members))))
    return [max(_SMALLEST, largest * math.sqrt(member.nbytes / most)) for member in members]


def _places(radii: list[float]) -> list[tuple[float, float]]:
    """Place the centres, the first in the middle."""
    around = len(radii) - 1
    widest = max(radii[1:], default=0.0)
    if around <= _RING:
        distance = max(radii[0] + widest + 34, (widest + 8) * around / math.pi)
        angles = [2 * math.pi * at / max(around, 1) - math.pi / 2 for at in range(around)]
        ring = [distance] * around
    else:
        angles = [at * _GOLDEN_ANGLE for at in range(around)]
        start = ((radii[0] + widest + 8) / (1.9 * widest)) ** 2
        ring = [1.9 * widest * math.sqrt(start + at) for at in range(around)]
    return [(0.0, 0.0), *((r * math.cos(a), r * math.sin(a)) for r, a in zip(ring, angles, strict=True))]


def _labels(members: Sequence[Member], radii: list[float], places: list[tuple[float, float]]) -> Iterator[str]:
    """Write names beside the circles, away from the middle; the caption names the root."""
    for member, radius, (x, y) in zip(members[1:], radii[1:], places[1:], strict=True):
        name = brief(last_part(member.path), _LABEL_LENGTH)
        if abs(x) < 1:
            at, anchor = (x, y - radius - 5 if y < 0 else y + radius + 14), "middle"
        else:
            at, anchor = (x + math.copysign(radius + 5, x), y + 4), "start" if x > 0 else "end"
        yield f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}">{name}</text>'


def _line(begin: tuple[float, float], end: tuple[float, float]) -> str:
    return f"M{begin[0]:.1f} {begin[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"


def _shade(member: Member) -> int:
    added = member.stored_nbytes / member.nbytes if member.nbytes else 0.0
    return next(shade for most, shade in _SHADES if added <= most)


def shades() -> list[tuple[str, int]]:
    """Return what the colours of the circles mean."""
    return [("more" if math.isinf(most) else f"≤ {most:.0%}", shade) for most, shade in _SHADES]


def _title(member: Member) -> str:
    sizes = f"{size(member.nbytes)}, added {size(member.stored_nbytes)} ({ratio(member.stored_nbytes, member.nbytes)})"
    return f"{attribute(model_name(member.path))}: {sizes}"
