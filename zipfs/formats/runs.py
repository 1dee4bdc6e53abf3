"""Owns the search for runs of floats in plain bytes: where they begin and end, at which phase, of which type.

Windows of a KiB are looked at, a few of them far apart at first. Where none looks like floats the bytes stay one span;
else more are looked at around those that do, the ends of what has one type and one phase are found by bisection, and
refined item by item. So the same floats are cut alike wherever they lie. What lies in a run and does not alter its
phase, such as the border of two tensors, is not noticed.

A window looks like floats if the upper bytes of its items, which hold most of the exponent, keep to a narrow range
while its other bytes do not. `dtype_of_sample` has the last word on the windows of a run.

Pure: the same bytes give the same spans. Any thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.dtypes import float_fields, item_nbytes
from zipfs.formats.guess import PLACES, dtype_of_sample
from zipfs.formats.layout import Layout, Read, Span

LEAST_NBYTES: Final = 64 << 10
"""Plain spans that are shorter are left as they are."""
LEAST_PIECE_NBYTES: Final = 4 << 20
MOST_PIECE_NBYTES: Final = 64 << 20
_PIECES: Final = 16
"""Longer runs are cut into pieces, so many of a whole file: then the places by which ranges of a piece are searched are
close enough for the small tensors of a model, and pieces long enough to be found in the large ones."""
WINDOW_NBYTES: Final = 1024
FINE_NBYTES: Final = 64 << 10
"""How far apart windows are where there are floats, but for what is so long that there were too many of them."""
_MOST_COARSE: Final = 64
_LARGEST_COARSE_NBYTES: Final = 32 << 20
_SOME: Final = 4
"""Where there are any floats, all of the span is looked at in windows that are so many times as far apart."""
_MOST_FINE: Final = 1 << 16
_LEAST_RUN_NBYTES: Final = 4 << 10
_BATCH: Final = 1024
_BISECTED_NBYTES: Final = 256

_BINS: Final = 16
_WIDE_BINS: Final = 4
"""Of 8 values each: the upper seven bits of an exponent keep to a range that so many of them cover."""
_LAST_BIN: Final = 10
_LEAST_NONZERO: Final = 16
_LEAST_SHARE: Final = 0.95

_PLAIN: Final = 0
_ZEROS: Final = -1
"""Windows of hardly anything but zeros: they belong to whatever is around them."""

_PROBED: Final = 8
_LEAST_WRONG: Final = 3
"""A run ends where so many of the next _PROBED items have exponents that are unlike its own."""
_EXPONENTS_BELOW: Final = 10
_EXPONENTS_ABOVE: Final = 4

Codes = NDArray[np.int64]


def _code(width: int, phase: int) -> int:
    return width << 3 | phase


def _codes_by_positions() -> Codes:
    """Return, for each set of byte positions modulo 8 that look like upper bytes, the code of items that have these."""
    codes = np.full(256, _PLAIN, np.int64)
    for width in (2, 4, 8):
        for phase in range(width):
            upper = sum(1 << at for at in range(8) if (at + 1 - phase) % width == 0)
            codes[upper] = _code(width, phase)
            if width == 8:  # the exponent of F64 has four bits in the next byte
                codes[upper | 1 << (phase - 2) % 8] = _code(width, phase)
    return codes


_CODES: Final = _codes_by_positions()


@dataclass(frozen=True, slots=True)
class _Run:
    """Windows from place `first` to `last`, which have one code."""

    code: int
    first: int
    last: int

    @property
    def width(self) -> int:
        return self.code >> 3

    @property
    def phase(self) -> int:
        return self.code & 7


def find_runs(layout: Layout, read: Read) -> Layout:
    """Return a layout whose large plain spans are cut into runs of floats and what lies between. Raises as `read`."""
    spans: list[Span] = []
    for span in layout.spans:
        if span.dtype or span.nbytes < LEAST_NBYTES:
            spans.append(span)
        else:
            spans.extend(_Finder(read, span).spans())
    return Layout(layout.format, tuple(spans))


class _Finder:
    """Finds the runs of one plain span; places count bytes from its start."""

    def __init__(self, read: Read, span: Span) -> None:
        self._read = read
        self._span = span
        self._fine_nbytes = FINE_NBYTES
        while span.nbytes > _MOST_FINE * self._fine_nbytes:
            self._fine_nbytes *= 2
        self._piece_nbytes = LEAST_PIECE_NBYTES
        while span.nbytes > 2 * _PIECES * self._piece_nbytes and self._piece_nbytes < MOST_PIECE_NBYTES:
            self._piece_nbytes *= 2

    def spans(self) -> Iterator[Span]:
        """Yield spans that tile the span."""
        end = 0
        for run in self._runs():
            floats = self._floats(run)
            if floats is None:
                continue
            start, stop = self._start(run, floats), self._stop(run, floats)
            start = max(start, end + (run.phase - end) % run.width)
            if stop - start < _LEAST_RUN_NBYTES:
                continue
            if start > end:
                yield self._cut(end, start, "")
            for at in range(start, stop, self._piece_nbytes):
                yield self._cut(at, min(at + self._piece_nbytes, stop), floats.dtype)
            end = stop
        if end == 0:
            yield self._span
        elif end < self._span.nbytes:
            yield self._cut(end, self._span.nbytes, "")

    def _cut(self, start: int, stop: int, dtype: str) -> Span:
        # Rows of one item: tensors may begin at any item of a run, and then the search for ranges looks at each.
        shape = ((stop - start) // item_nbytes(dtype), 1) if dtype else ()
        return Span(self._span.offset + start, stop - start, dtype, shape, self._span.name)

    def _runs(self) -> list[_Run]:
        """Return the runs, in order, to the precision of _BISECTED_NBYTES."""
        places, codes = self._look_around()
        first = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
        last = np.append(first[1:], codes.size) - 1
        rough = [
            _Run(int(codes[a]), int(places[a]), int(places[b]))
            for a, b in zip(first, last, strict=True)
            if codes[a] != _PLAIN
        ]
        # Towards both sides up to the next window that is known to be something else.
        before = [int(places[a - 1]) if a else -1 for a in first if codes[a] != _PLAIN]
        behind = [int(places[b + 1]) if b + 1 < codes.size else -1 for b in last if codes[b] != _PLAIN]
        starts = self._bisect([run.code for run in rough], [run.first for run in rough], before)
        stops = self._bisect([run.code for run in rough], [run.last for run in rough], behind)
        return [_Run(run.code, at, to) for run, at, to in zip(rough, starts, stops, strict=True)]

    def _look_around(self) -> tuple[Codes, Codes]:
        """Return places, in order, and the codes of their windows; close to each other where there are floats."""
        apart = self._fine_nbytes
        while self._span.nbytes > _MOST_COARSE * apart and apart < _LARGEST_COARSE_NBYTES:
            apart *= 2
        end = (self._span.nbytes - WINDOW_NBYTES) // 8 * 8
        places = np.append(np.arange(0, end, apart), end)
        codes = self._confirmed(places, self._codes(places))
        while apart > self._fine_nbytes:
            apart //= 2
            is_float = codes > _PLAIN
            near = is_float[1:] | is_float[:-1] | (apart >= _SOME * self._fine_nbytes and np.any(is_float))
            wanted = near & (places[1:] - places[:-1] > apart)
            if np.any(wanted):
                between = places[:-1][wanted] + apart
                order = np.argsort(np.append(places, between), kind="stable")
                codes = np.append(codes, self._codes(between))[order]
                places = np.append(places, between)[order]
        return places, _with_zeros_joined(codes)

    def _bisect(self, codes: Sequence[int], good: Sequence[int], bad: Sequence[int]) -> list[int]:
        """Return the places furthest from `good` towards `bad` whose windows have the codes; -1: no bad one."""
        at, to = np.array(good, np.int64), np.array(bad, np.int64)
        wanted = np.array(codes, np.int64)
        while True:
            open_ = np.flatnonzero((to >= 0) & (np.abs(to - at) > _BISECTED_NBYTES))
            if not open_.size:
                return [int(place) for place in at]
            middle = (at[open_] + to[open_]) // 16 * 8
            is_same = self._codes(middle) == wanted[open_]
            at[open_[is_same]] = middle[is_same]
            to[open_[~is_same]] = middle[~is_same]

    def _codes(self, places: Codes) -> Codes:
        found = [_codes_of(self._windows(places[at : at + _BATCH])) for at in range(0, places.size, _BATCH)]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _windows(self, places: Codes) -> NDArray[np.uint8]:
        offset = self._span.offset
        content = b"".join(
            self._read(offset + int(place), WINDOW_NBYTES).ljust(WINDOW_NBYTES, b"\0") for place in places
        )
        return np.frombuffer(content, np.uint8).reshape(-1, WINDOW_NBYTES)

    def _confirmed(self, places: Codes, codes: Codes) -> Codes:
        """Return the codes without those whose windows, taken together, hold no floats."""
        for code in np.unique(codes[codes > _PLAIN]):
            mine = places[codes == code]
            run = _Run(int(code), int(mine[0]), int(mine[-1]))
            if self._floats_at(run, mine[:: -(-mine.size // PLACES)]) is None:
                codes = np.where(codes == code, _PLAIN, codes)
        return codes

    def _floats(self, run: _Run) -> _Floats | None:
        """Return what some windows of a run hold."""
        count = min(PLACES, 1 + (run.last - run.first) // WINDOW_NBYTES)
        return self._floats_at(run, np.linspace(run.first, run.last, count).astype(np.int64) // 8 * 8)

    def _floats_at(self, run: _Run, places: Codes) -> _Floats | None:
        windows = self._windows(places)
        # Others may lie in what is not noticed.
        windows = windows[_codes_of(windows) == run.code]
        sample = windows[:, run.phase : run.phase + WINDOW_NBYTES - 8].tobytes()
        dtype = dtype_of_sample(sample)
        if not float_fields(dtype)[0] or item_nbytes(dtype) != run.width:
            return None
        exponents = _exponents(sample, dtype)
        normal = exponents[exponents > 0]
        if not normal.size:  # small integers look like subnormals of F16
            return None
        usual = np.quantile(normal, (0.01, 0.99))
        return _Floats(dtype, int(usual[0]) - _EXPONENTS_BELOW, int(usual[1]) + _EXPONENTS_ABOVE)

    def _start(self, run: _Run, floats: _Floats) -> int:
        """Return where the items of a run begin, about its first window."""
        low = max(0, run.first - 2 * _BISECTED_NBYTES)
        low += (run.phase - low) % run.width
        high = run.first + WINDOW_NBYTES // 2
        high += (run.phase - high) % run.width
        return high - run.width * floats.agreeing(self._read(self._span.offset + low, high - low), backwards=True)

    def _stop(self, run: _Run, floats: _Floats) -> int:
        """Return where the items of a run end, about its last window."""
        low = run.last + WINDOW_NBYTES // 2
        low += (run.phase - low) % run.width
        high = min(self._span.nbytes, run.last + WINDOW_NBYTES + 2 * _BISECTED_NBYTES)
        return low + run.width * floats.agreeing(self._read(self._span.offset + low, high - low), backwards=False)


@dataclass(frozen=True, slots=True)
class _Floats:
    """The type of the floats of a run, and the exponents that are expected of them, as they are stored."""

    dtype: str
    least: int
    largest: int

    def agreeing(self, content: bytes, *, backwards: bool) -> int:
        """Return how many items of `content`, from its end if `backwards`, are of the run."""
        exponents = _exponents(content, self.dtype)
        is_wrong = (exponents != 0) & ((exponents < self.least) | (exponents > self.largest))
        if backwards:
            is_wrong = is_wrong[::-1]
        wrong = np.convolve(is_wrong, np.ones(_PROBED, np.int64))[_PROBED - 1 :] if is_wrong.size else is_wrong
        ends = np.flatnonzero(is_wrong & (wrong >= _LEAST_WRONG))
        return int(ends[0]) if ends.size else is_wrong.size


def _exponents(content: bytes, dtype: str) -> Codes:
    exponent_bits, mantissa_bits = float_fields(dtype)
    width = item_nbytes(dtype)
    items = np.frombuffer(content, f"<u{width}", len(content) // width)
    return (items >> mantissa_bits & ((1 << exponent_bits) - 1)).astype(np.int64)


def _codes_of(windows: NDArray[np.uint8]) -> Codes:
    """Return the code of each window: _PLAIN, _ZEROS, or the width and phase of the floats that it may hold."""
    count = len(windows)
    values = windows & 0x7F
    columns = np.arange(count * 8, dtype=np.int32).reshape(count, 1, 8) * _BINS
    places = columns + (values >> 3).reshape(count, -1, 8)
    counts = np.bincount(places.ravel(), minlength=count * 8 * _BINS).reshape(count, 8, _BINS)
    zeros = np.count_nonzero(values.reshape(count, -1, 8) == 0, axis=1)
    counts[:, :, 0] -= zeros
    nonzero = WINDOW_NBYTES // 8 - zeros
    sums = np.cumsum(counts[:, :, :_LAST_BIN], axis=2)
    widest = sums[:, :, _WIDE_BINS - 1 :].copy()
    widest[:, :, 1:] -= sums[:, :, :-_WIDE_BINS]
    is_upper = (widest.max(axis=2) >= _LEAST_SHARE * nonzero) & (nonzero >= _LEAST_NONZERO)
    codes = _CODES[np.packbits(is_upper, axis=1, bitorder="little")[:, 0]]
    return np.where(nonzero.max(axis=1) < _LEAST_NONZERO, _ZEROS, codes)


def _with_zeros_joined(codes: Codes) -> Codes:
    """Return the codes with those of windows of zeros replaced by those around them, where these are alike."""
    known = np.flatnonzero(codes != _ZEROS)
    if known.size == 0:
        return np.full_like(codes, _PLAIN)
    at = np.searchsorted(known, np.arange(codes.size))
    before = codes[known[np.maximum(at - 1, 0)]]
    behind = codes[known[np.minimum(at, known.size - 1)]]
    return np.where(codes != _ZEROS, codes, np.where(before == behind, before, _PLAIN))
