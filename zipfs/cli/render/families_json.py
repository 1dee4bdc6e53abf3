"""What `zipfs families --json` prints: sizes in bytes, paths as printable text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zipfs.cli.render.model_tree import model_name
from zipfs.cli.render.store_sizes import sizes_json

if TYPE_CHECKING:
    from zipfs.inspect.families import Family, Member
    from zipfs.inspect.storage_method import Share
    from zipfs.inspect.store_report import StoreReport


def families_json(report: StoreReport) -> dict[str, Any]:
    """Describe the families of a store, and what belongs to none."""
    found, sizes = report.families, report.sizes
    return {
        "nbytes": sizes.raw_nbytes,
        "stored_nbytes": sizes.stored_nbytes,
        "saved_nbytes": sizes.raw_nbytes - sizes.stored_nbytes,
        **sizes_json(sizes),
        "other_formats": {
            ending: {"files": foreign.files, **_sizes(foreign.share)} for ending, foreign in found.foreign.items()
        },
        "other_files": {"files": found.other_files, **_sizes(found.others)},
        "spool": {"files": found.spool_files, **_sizes(found.spool)},
        "families": [_family(family) for family in found.families],
    }


def _sizes(share: Share) -> dict[str, int]:
    return {"nbytes": share.nbytes, "stored_nbytes": share.stored_nbytes}


def _family(family: Family) -> dict[str, Any]:
    return {
        "root": model_name(family.root.path),
        "nbytes": family.nbytes,
        "stored_nbytes": family.stored_nbytes,
        "saved_nbytes": family.saved_nbytes,
        "kept_nbytes": family.kept_nbytes,
        "members": [_member(member) for member in family.members],
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "path": model_name(member.path),
        "parent": None if member.parent is None else model_name(member.parent),
        "files": member.files,
        "tensors": member.tensors,
        "nbytes": member.nbytes,
        "stored_nbytes": member.stored_nbytes,
        "saved_nbytes": member.saved_nbytes,
        "carried_nbytes": member.carried_nbytes,
        "ways": {method.json_name: _sizes(share) for method, share in member.shares.items()},
        "rests_on": [{"path": model_name(path), "nbytes": nbytes} for path, nbytes in member.rests_on],
    }
