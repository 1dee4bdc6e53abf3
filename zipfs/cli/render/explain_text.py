"""What `zipfs explain` prints for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zipfs.cli.render.table import Column, lay_out_table
from zipfs.cli.render.units import counted, percent, ratio, size
from zipfs.formats import OPAQUE
from zipfs.host import printable
from zipfs.inspect.bits_per_weight import bits_per_weight, weight_count
from zipfs.inspect.directory_report import FileSummary
from zipfs.inspect.file_report import FileReport, TensorReport, base_items
from zipfs.inspect.foreign import model_ending
from zipfs.inspect.provenance import Place, StoredExtent
from zipfs.inspect.storage_method import Shares, StorageMethod, total, total_by_method

_TENSOR_COLUMNS = (
    Column("tensor", number=False, least=34),
    Column("type", number=False, dispensable=2),
    Column("size"),
    Column("added"),
    Column("of size", dispensable=1),
    Column("bits"),
    Column("predicted", dispensable=4),
    Column("standalone", dispensable=3),
    Column("next", dispensable=5),
    Column("stored how", number=False, least=14),
    Column("why", number=False, least=14, dispensable=7),
    Column("next best", number=False, least=14, dispensable=6),
)


class _Legend:
    """Numbers the files that a table refers to, as they come."""

    def __init__(self, report: FileReport) -> None:
        self._report = report
        self._numbers: dict[bytes, int] = {}

    def place(self, place: Place | None, one: TensorReport) -> str:
        """Name a place briefly, without what it has in common with the tensor `one`."""
        if place is None:
            return "a file that was removed"
        named = self._report.places[place]
        path = ""
        if named.path != self._report.path:
            path = f"[{self._numbers.setdefault(named.path, len(self._numbers) + 1)}]"
        tensor = "" if named.tensor is None or (named.tensor == one.name and path) else printable(named.tensor)
        return " ".join(filter(None, (path, tensor))) or "this file"

    def lines(self) -> Iterator[str]:
        for path, number in self._numbers.items():
            yield f"[{number}] {printable(path)}"


def file_text(report: FileReport, width: int | None) -> Iterator[str]:
    """Describe a file, tensor by tensor, and its totals, for a terminal of `width` cells; None for any width."""
    yield f"{printable(report.path)}: {_verdict(report.shares())}"
    if report.kept_as_bytes:
        yield printable(report.kept_as_bytes)
    legend = _Legend(report)
    rows = [row for one in report.tensors for row in _rows(one, report.format, legend)]
    if rows:
        yield ""
        yield from lay_out_table(_TENSOR_COLUMNS, rows, width)
        yield ""
        yield from legend.lines()
        yield from _by_method(report.shares())


def _rows(one: TensorReport, form: str | None, legend: _Legend) -> Iterator[list[str]]:
    name = _name(one, form)
    kind = " ".join(filter(None, (one.dtype, "x".join(map(str, one.shape)))))
    if len(one.extents) == 1 or one.ranges > 1:
        yield [name, kind, *_sizes(one.nbytes, one.added_nbytes, one.dtype), *_why_and_how(one.extents[0], one, legend)]
        return
    sizes = _sizes(one.nbytes, one.added_nbytes, one.dtype)
    yield [name, kind, *sizes, "", "", "", f"in {len(one.extents)} parts", "", ""]
    for stored in one.extents:
        start = stored.extent.offset - one.offset
        label = f"  bytes {start} to {start + stored.extent.nbytes}"
        sizes = _sizes(stored.extent.nbytes, stored.added_nbytes, one.dtype)
        yield [label, "", *sizes, *_why_and_how(stored, one, legend)]


def _name(one: TensorReport, form: str | None) -> str:
    if one.name is not None:
        return printable(one.name)
    if one.ranges > 1:
        return f"({one.ranges} small ranges)"
    if one.offset == 0 and not one.dtype and form not in (None, OPAQUE):
        return "(header)"
    return f"(bytes {one.offset} to {one.offset + one.nbytes})"


def _sizes(nbytes: int, added_nbytes: int, dtype: str) -> list[str]:
    bits = _bits(bits_per_weight(added_nbytes, weight_count(nbytes, dtype)))
    return [size(nbytes), size(added_nbytes), ratio(added_nbytes, nbytes), bits]


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _why_and_how(stored: StoredExtent, one: TensorReport, legend: _Legend) -> list[str]:
    """Return the cells on what is predicted, how it is stored and why, and the next best base."""
    prediction = stored.prediction
    how = _how(stored, one, legend)
    why = "not known" if stored.reason is None else stored.reason.value
    if prediction is None:
        return ["", "", "", how, why, ""]
    following = legend.place(prediction.other, one) if prediction.other is not None else ""
    bits = (prediction.against, prediction.standalone, prediction.best_other)
    return [*map(_bits, bits), how, why, following]


def _how(stored: StoredExtent, one: TensorReport, legend: _Legend) -> str:
    serves = f", base of {stored.members}" if stored.members else ""
    if stored.method is StorageMethod.SHARED:
        return f"same as {legend.place(stored.shared_with, one)}{serves}"
    if stored.base is None:
        return f"{stored.method.label}{serves}"
    cast = stored.base.view.cast
    view = f"{cast.source} as {cast.target} " if cast is not None else ""
    items = base_items(stored.base)
    if items is not None:
        view += f"items {items[0]} to {items[1]} of "
    return f"against {view}{legend.place(stored.base.place, one)}"


_SUMMARY_COLUMNS = (
    Column("file", number=False, least=24),
    Column("size"),
    Column("added"),
    Column("of size", dispensable=4),
    Column("bits"),
)


def directory_text(path: bytes, summaries: Sequence[FileSummary], width: int | None) -> Iterator[str]:
    """Describe the files of a directory, by their paths below it, and its totals."""
    sums = total_by_method(one.shares for one in summaries)
    columns = [
        *_SUMMARY_COLUMNS,
        *(Column(method.label, dispensable=2) for method in sums),
        Column("rests on", number=False, least=16, dispensable=3),
    ]
    if summaries:
        yield from lay_out_table(columns, [_summary_cells(one, path, list(sums)) for one in summaries], width)
        yield ""
        yield from _by_method(sums)
    yield f"{counted(len(summaries), 'file')}: {_verdict(sums)}"
    kept = [one for one in summaries if _is_kept_as_bytes(one)]
    if kept:
        look, are = ("looks", "is") if len(kept) == 1 else ("look", "are")
        files = f"{counted(len(kept), 'file')} that {look} like models {are} kept as bytes"
        yield f"{files}: `zipfs explain` of one says why"


def _is_kept_as_bytes(one: FileSummary) -> bool:
    has_tensors = one.bits_per_weight is not None
    return not one.in_spool and not has_tensors and bool(model_ending(one.path, total(one.shares).nbytes))


def _summary_cells(one: FileSummary, path: bytes, methods: Sequence[StorageMethod]) -> list[str]:
    sums = total(one.shares)
    shares = (percent(one.shares[method].nbytes, sums.nbytes) if method in one.shares else "" for method in methods)
    rests_on = printable(one.rests_on[0][0]) if one.rests_on else ""
    more = f" and {len(one.rests_on) - 1} more" if len(one.rests_on) > 1 else ""
    stored = ratio(sums.stored_nbytes, sums.nbytes)
    sizes = (size(sums.nbytes), size(sums.stored_nbytes), stored, _bits(one.bits_per_weight))
    return [printable(one.path[len(path) :].lstrip(b"/")), *sizes, *shares, rests_on + more]


def _verdict(shares: Shares) -> str:
    sums = total(shares)
    spool = ", not compressed yet" if list(shares) == [StorageMethod.SPOOL] else ""
    return f"{size(sums.nbytes)} in {size(sums.stored_nbytes)} ({ratio(sums.stored_nbytes, sums.nbytes)}){spool}"


def _by_method(shares: Shares) -> Iterator[str]:
    for method, share in shares.items():
        yield f"{method.label:<10}  {size(share.nbytes):>10} in {size(share.stored_nbytes):>10}"
