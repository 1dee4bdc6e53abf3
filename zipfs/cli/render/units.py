"""Sizes, shares, counts and times as short text. Pure."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(nbytes: float) -> str:
    """Format bytes: `1.5 GiB`."""
    unit = 0
    while nbytes >= 1024 and unit < len(_UNITS) - 1:
        nbytes /= 1024
        unit += 1
    return f"{nbytes:.0f} B" if unit == 0 else f"{nbytes:.1f} {_UNITS[unit]}"


def ratio(part: float, whole: float) -> str:
    """Format a share: `7.1%`; `-` of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def percent(part: float, whole: float) -> str:
    """Format a share in whole percent: only nothing is `0%`, and only all of it is `100%`."""
    rounded = min(99, max(1, round(100 * part / whole))) if 0 < part < whole else round(100 * part / max(whole, 1))
    return f"{rounded}%" if part / max(whole, 1) >= 0.01 or not part else "<1%"


def counted(count: int, one: str, many: str = "") -> str:
    """Format a count: `1 file`, `2 files`, `1,000 directories`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Format a time: `1.2 ms`; `-` for none."""
    if seconds is None:
        return "-"
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def number(value: float) -> str:
    """Format a number: `12`, `0.3`, `1234`, with a digit behind the point where it says something."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
