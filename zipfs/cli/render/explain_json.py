"""What `zipfs explain --json` prints: sizes in bytes, bits per weight, paths and names as printable text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zipfs.host import printable
from zipfs.inspect.directory_report import FileSummary
from zipfs.inspect.file_report import FileReport, NamedPlace, TensorReport
from zipfs.inspect.provenance import Place, StoredExtent
from zipfs.inspect.storage_method import Shares, total, total_by_method


def directory_json(path: bytes, summaries: Sequence[FileSummary], reports: Sequence[FileReport]) -> dict[str, Any]:
    """Describe a directory, by its `reports` if there are any, and by its summaries otherwise."""
    files = [file_json(report) for report in reports] if reports else [_summary(one) for one in summaries]
    sums = _sizes(total_by_method(one.shares for one in summaries))
    return {"path": printable(path), "type": "dir", **sums, "files": files}


def _sizes(shares: Shares) -> dict[str, Any]:
    sums = total(shares)
    return {
        "nbytes": sums.nbytes,
        "stored_nbytes": sums.stored_nbytes,
        "ways": {
            method.json_name: {"nbytes": share.nbytes, "stored_nbytes": share.stored_nbytes}
            for method, share in shares.items()
        },
    }


def _summary(one: FileSummary) -> dict[str, Any]:
    return {
        "path": printable(one.path),
        "type": "file",
        "state": "spool" if one.in_spool else "stored",
        **_sizes(one.shares),
        "bits_per_weight": one.bits_per_weight,
        "rests_on": [{"path": printable(path), "nbytes": nbytes} for path, nbytes in one.rests_on],
    }


def file_json(report: FileReport) -> dict[str, Any]:
    """Describe a file, tensor by tensor."""
    return {
        "path": printable(report.path),
        "type": "file",
        "state": report.state.value,
        "format": report.format,
        "kept_as_bytes": report.kept_as_bytes or None,
        **_sizes(report.shares()),
        "bits_per_weight": report.bits_per_weight,
        "tensors": [_tensor(one, report.places) for one in report.tensors],
    }


def _tensor(one: TensorReport, places: Mapping[Place, NamedPlace]) -> dict[str, Any]:
    return {
        "name": None if one.name is None else printable(one.name),
        "dtype": one.dtype,
        "shape": list(one.shape),
        "offset": one.offset,
        "nbytes": one.nbytes,
        "stored_nbytes": one.added_nbytes,
        "bits_per_weight": one.bits_per_weight,
        "parts": [_extent(stored, places) for stored in one.extents],
    }


def _extent(stored: StoredExtent, places: Mapping[Place, NamedPlace]) -> dict[str, Any]:
    prediction = stored.prediction
    return {
        "offset": stored.extent.offset,
        "nbytes": stored.extent.nbytes,
        "way": stored.method.json_name,
        "stored_nbytes": stored.added_nbytes,
        "blob_nbytes": stored.blob.nbytes,
        "blob_stored_nbytes": stored.blob.stored_nbytes,
        "shared_with": _place(stored.shared_with, places),
        "base": None
        if stored.base is None
        else {
            "of": _place(stored.base.place, places),
            "dtype": stored.base.blob.dtype,
            "offset": stored.base.view.offset,
            "nbytes": stored.base.view.nbytes,
            "cast": None if stored.base.view.cast is None else str(stored.base.view.cast),
        },
        "members": stored.members,
        "reason": None if stored.reason is None else stored.reason.name.lower(),
        "predicted": None
        if prediction is None
        else {
            "base_bits": prediction.against,
            "alone_bits": prediction.standalone,
            "next_bits": prediction.best_other,
            "next": _place(prediction.other, places),
        },
    }


def _place(place: Place | None, places: Mapping[Place, NamedPlace]) -> dict[str, Any] | None:
    if place is None:
        return None
    named = places[place]
    return {"path": printable(named.path), "tensor": None if named.tensor is None else printable(named.tensor)}
