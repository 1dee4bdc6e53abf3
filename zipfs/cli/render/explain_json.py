"""What `zipfs explain --json` prints: sizes in bytes, bits per weight, paths and names as text that any terminal takes.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zipfs.host import printable
from zipfs.inspect.directory_report import Summary, total
from zipfs.inspect.families import Share
from zipfs.inspect.file_report import Account, FileAccount, Named
from zipfs.inspect.inventory import Way
from zipfs.inspect.provenance import Piece, Place


def directory(path: bytes, summaries: Sequence[Summary], accounts: Sequence[FileAccount]) -> dict[str, Any]:
    files = [file(account) for account in accounts] if accounts else [_summary_row(one) for one in summaries]
    return {"path": printable(path), "type": "dir", **_sums(total(summaries)), "files": files}


def _sums(ways: Mapping[Way, Share]) -> dict[str, Any]:
    return {
        "nbytes": sum(share.nbytes for share in ways.values()),
        "stored_nbytes": sum(share.stored_nbytes for share in ways.values()),
        "ways": {
            way.label: {"nbytes": share.nbytes, "stored_nbytes": share.stored_nbytes} for way, share in ways.items()
        },
    }


def _summary_row(one: Summary) -> dict[str, Any]:
    return {
        "path": printable(one.path),
        "type": "file",
        "state": "spool" if one.in_spool else "stored",
        **_sums(one.ways),
        "bits_per_weight": one.bits_per_weight,
        "rests_on": [{"path": printable(path), "nbytes": nbytes} for path, nbytes in one.rests_on],
    }


def file(account: FileAccount) -> dict[str, Any]:
    return {
        "path": printable(account.path),
        "type": "file",
        "state": account.state.value,
        "format": account.format,
        "kept_as_bytes": account.kept_as_bytes or None,
        **_sums(account.ways()),
        "bits_per_weight": account.bits_per_weight,
        "tensors": [_tensor(one, account.places) for one in account.accounts],
    }


def _tensor(one: Account, places: Mapping[Place, Named]) -> dict[str, Any]:
    return {
        "name": None if one.name is None else printable(one.name),
        "dtype": one.dtype,
        "shape": list(one.shape),
        "offset": one.offset,
        "nbytes": one.nbytes,
        "stored_nbytes": one.added_nbytes,
        "bits_per_weight": one.bits_per_weight,
        "parts": [_part(piece, places) for piece in one.pieces],
    }


def _part(piece: Piece, places: Mapping[Place, Named]) -> dict[str, Any]:
    prediction = piece.prediction
    return {
        "offset": piece.extent.offset,
        "nbytes": piece.extent.nbytes,
        "way": piece.way.label,
        "stored_nbytes": piece.added_nbytes,
        "blob_nbytes": piece.blob.nbytes,
        "blob_stored_nbytes": piece.blob.stored_nbytes,
        "shared_with": _place(piece.shared_with, places),
        "base": None
        if piece.base is None
        else {
            "of": _place(piece.base.place, places),
            "dtype": piece.base.blob.dtype,
            "offset": piece.base.view.offset,
            "nbytes": piece.base.view.nbytes,
            "cast": None if piece.base.view.cast is None else str(piece.base.view.cast),
        },
        "members": piece.members,
        "predicted": None
        if prediction is None
        else {
            "base_bits": prediction.against,
            "alone_bits": prediction.alone,
            "next_bits": prediction.best_other,
            "next": _place(prediction.other, places),
        },
    }


def _place(place: Place | None, places: Mapping[Place, Named]) -> dict[str, Any] | None:
    if place is None:
        return None
    named = places[place]
    return {"path": printable(named.path), "tensor": None if named.tensor is None else printable(named.tensor)}
