"""Families: models that rest on each other's tensors, and what that saved.

A model rests on another with the bytes of its tensors that are coded against that one's, or are shared with it. Models
are siblings, of one family, if that is a hundredth of the smaller one at least: what every model of a kind has in
common (masks, tables of positions) makes no family. The root is the model on which most bytes rest; the others hang on
it, and on each other, by the strongest ties (a maximum spanning tree: R. Prim, Shortest Connection Networks, 1957).

Pure, and the same for the same inventory; any thread may call.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zipfs.inspect.foreign import model_ending
from zipfs.inspect.inventory import Inventory
from zipfs.inspect.storage_method import Share, Shares, StorageMethod
from zipfs.store.catalog.statistics import Integers

LEAST_TIE: Final = 0.01
"""Of the tensor bytes of the smaller model."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model of a family.

    `parent` is the one that it hangs on, None for the root. `carried_nbytes` of other models rest on it. It rests on
    others as `rests_on` lists: (model, bytes), the most first.
    """

    path: bytes
    parent: bytes | None
    depth: int
    files: int
    tensors: int
    nbytes: int
    stored_nbytes: int
    tensor_nbytes: int
    carried_nbytes: int
    shares: Shares
    rests_on: tuple[tuple[bytes, int], ...]

    @property
    def saved_nbytes(self) -> int:
        return self.nbytes - self.stored_nbytes


@dataclass(frozen=True, slots=True)
class Family:
    """Members as a tree: the root first, each behind its parent, in order of the bytes that they rest on it with.

    `kept_nbytes` is what bases take that are kept for members, and of which every file is gone.
    """

    members: tuple[Member, ...]
    nbytes: int
    stored_nbytes: int
    kept_nbytes: int

    @property
    def root(self) -> Member:
        return self.members[0]

    @property
    def saved_nbytes(self) -> int:
        return self.nbytes - self.stored_nbytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """Files that look like models of one format, in which no tensor was found."""

    files: int
    share: Share


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """All families, those that saved most first, and what belongs to no model.

    `foreign` are files that look like models and are kept as bytes, by the ending of their names, in models or not.
    `others` are files outside of models, of which those are `plain` that are not foreign. `spool` are files that are
    not compressed yet; they count with their model as well.
    `unused_nbytes` is what blobs take that neither a file nor a member needs, until the next `gc`.
    """

    families: tuple[Family, ...]
    others: Share
    other_files: int
    plain: Share
    plain_files: int
    spool: Share
    spool_files: int
    unused_nbytes: int
    foreign: Mapping[str, Foreign]

    @property
    def nbytes(self) -> int:
        return sum(family.nbytes for family in self.families) + self.others.nbytes

    @property
    def stored_nbytes(self) -> int:
        """Sum packs and spool up, what is unused included."""
        of_families = sum(family.stored_nbytes for family in self.families)
        return of_families + self.others.stored_nbytes + self.unused_nbytes


Rows = NDArray[np.intp]
Ties = dict[int, dict[int, int]]
"""Model -> model that it rests on -> bytes."""


def find_families(inventory: Inventory) -> FamilyReport:
    """Find the families of a store."""
    totals = _Totals(inventory)
    ties = _ties(inventory)
    between = _both_ways(ties, totals.tensor_nbytes)
    carried: dict[int, int] = defaultdict(int)
    for rests in ties.values():
        for other, nbytes in rests.items():
            carried[other] += nbytes
    groups = _components(len(inventory.models), between)
    kept, unused = _kept(inventory, groups)
    families = []
    for number, group in enumerate(groups):
        root = min(group, key=lambda model: (-carried[model], -totals.tensor_nbytes[model], inventory.models[model]))
        members = tuple(
            totals.member(model, parent, depth, carried[model], ties.get(model, {}))
            for model, parent, depth in _as_tree(root, between, inventory.models)
        )
        raw = sum(member.nbytes for member in members)
        stored = sum(member.stored_nbytes for member in members) + kept[number]
        families.append(Family(members, raw, stored, kept[number]))
    families.sort(key=lambda family: (-family.saved_nbytes, family.root.path))
    return FamilyReport(
        tuple(families),
        totals.others,
        totals.other_files,
        totals.plain,
        totals.plain_files,
        totals.spool,
        totals.spool_files,
        unused + kept[-1],
        totals.foreign,
    )


@dataclass(slots=True)
class _Sum:
    """A sum over files."""

    files: int = 0
    nbytes: int = 0
    stored_nbytes: int = 0

    def add(self, nbytes: int, stored_nbytes: int) -> None:
        self.files += 1
        self.nbytes += nbytes
        self.stored_nbytes += stored_nbytes

    @property
    def share(self) -> Share:
        return Share(self.nbytes, self.stored_nbytes)


class _Totals:
    """Sums over the files and extents of each model."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        count = len(inventory.models)
        models = inventory.model_of_extent()
        cell = models * len(StorageMethod) + inventory.extents.methods
        inside = models >= 0
        shape = count, len(StorageMethod)
        self._nbytes = _sums(cell[inside], inventory.extents.nbytes[inside], shape)
        self._stored = _sums(cell[inside], inventory.extents.added_nbytes[inside], shape)
        is_tensor = inventory.is_tensor() & inside
        self.tensor_nbytes = _sums(models[is_tensor], inventory.extents.nbytes[is_tensor], (count,)).tolist()
        self._tensors = np.bincount(models[is_tensor], minlength=count).tolist()
        self._files = [0] * count
        others, plain, spool, foreign = _Sum(), _Sum(), _Sum(), defaultdict[str, _Sum](_Sum)
        added = _sums(inventory.extents.file, inventory.extents.added_nbytes, (len(inventory.files),))
        for number, file in enumerate(inventory.files):
            stored = file.nbytes if file.in_spool else int(added[number])
            is_kept = not file.has_tensors and not file.in_spool
            ending = model_ending(file.path, file.nbytes) if is_kept else ""
            if ending:
                foreign[ending].add(file.nbytes, stored)
            if file.in_spool:
                spool.add(file.nbytes, stored)
            if file.model is None:
                others.add(file.nbytes, stored)
                if not ending:
                    plain.add(file.nbytes, stored)
            else:
                self._files[file.model] += 1
                if file.in_spool:
                    self._nbytes[file.model, StorageMethod.SPOOL] += file.nbytes
                    self._stored[file.model, StorageMethod.SPOOL] += file.nbytes
        self.other_files, self.others = others.files, others.share
        self.plain_files, self.plain = plain.files, plain.share
        self.spool_files, self.spool = spool.files, spool.share
        self.foreign = {
            ending: Foreign(one.files, one.share)
            for ending, one in sorted(foreign.items(), key=lambda item: (-item[1].nbytes, item[0]))
        }

    def member(self, model: int, parent: int | None, depth: int, carried: int, rests: Mapping[int, int]) -> Member:
        models = self._inventory.models
        shares = {
            method: Share(int(self._nbytes[model, method]), int(self._stored[model, method]))
            for method in StorageMethod
            if self._nbytes[model, method]
        }
        rests_on = sorted(((models[other], nbytes) for other, nbytes in rests.items()), key=lambda tie: (-tie[1], tie))
        return Member(
            path=models[model],
            parent=None if parent is None else models[parent],
            depth=depth,
            files=self._files[model],
            tensors=self._tensors[model],
            nbytes=int(self._nbytes[model].sum()),
            stored_nbytes=int(self._stored[model].sum()),
            tensor_nbytes=self.tensor_nbytes[model],
            carried_nbytes=carried,
            shares=shares,
            rests_on=tuple(rests_on),
        )


def _sums(cells: Rows, values: Integers, shape: tuple[int, ...]) -> Integers:
    sums: Integers = np.zeros(int(np.prod(shape)), np.int64)
    np.add.at(sums, cells, values)
    return sums.reshape(shape)


def _ties(inventory: Inventory) -> Ties:
    """Count the bytes of each model that rest on each other one."""
    extents, blobs = inventory.extents, inventory.blobs
    models = inventory.model_of_extent()
    first = inventory.first_use()
    holder = np.where(first >= 0, models[first] if models.size else -1, -1)
    holder = _with_heirs(inventory, holder, models)
    base = blobs.bases[extents.blob]
    on = np.where(extents.methods == StorageMethod.SHARED, models[extents.owner], np.where(base >= 0, holder[base], -1))
    tied = inventory.is_tensor() & (models >= 0) & (on >= 0) & (on != models)
    pairs = models[tied] * len(inventory.models) + on[tied]
    found, inverse = np.unique(pairs, return_inverse=True)
    sums = _sums(inverse, extents.nbytes[tied], (found.size,))
    ties: Ties = defaultdict(dict)
    for pair, nbytes in zip(found.tolist(), sums.tolist(), strict=True):
        model, other = divmod(pair, len(inventory.models))
        ties[model][other] = nbytes
    return ties


def _with_heirs(inventory: Inventory, holder: Rows, models: Rows) -> Rows:
    """Count a base that no file holds any more as that of the first model that is coded against it."""
    extents, blobs = inventory.extents, inventory.blobs
    base = blobs.bases[extents.blob]
    orphaned = (base >= 0) & (models >= 0)
    orphaned[orphaned] = inventory.first_use()[base[orphaned]] < 0
    bases, first = np.unique(base[orphaned], return_index=True)
    holder[bases] = models[orphaned][first]
    return holder


def _both_ways(ties: Ties, tensor_nbytes: Sequence[int]) -> Ties:
    """Add up how models are tied to each other, whichever rests on which; weak ties are left out."""
    sums: Ties = defaultdict(lambda: defaultdict(int))
    for model, rests in ties.items():
        for other, nbytes in rests.items():
            sums[model][other] += nbytes
            sums[other][model] += nbytes
    return {
        model: {
            other: nbytes
            for other, nbytes in others.items()
            if nbytes >= LEAST_TIE * min(tensor_nbytes[model], tensor_nbytes[other])
        }
        for model, others in sums.items()
    }


def _components(count: int, between: Ties) -> list[list[int]]:
    """Group models that are tied, directly or through others, in order of the first of them."""
    seen = [False] * count
    groups = []
    for model in range(count):
        if seen[model]:
            continue
        seen[model] = True
        group = [model]
        for one in group:
            for other in between.get(one, {}):
                if not seen[other]:
                    seen[other] = True
                    group.append(other)
        groups.append(group)
    return groups


def _as_tree(root: int, between: Ties, models: Sequence[bytes]) -> list[tuple[int, int | None, int]]:
    """Return (model, parent, depth) of each, behind its parent."""
    children: dict[int, list[int]] = defaultdict(list)
    taken: set[int] = set()
    heap: list[tuple[int, bytes, int, int | None]] = [(0, b"", root, None)]
    while heap:
        _, _, model, parent = heapq.heappop(heap)
        if model in taken:
            continue
        taken.add(model)
        if parent is not None:
            children[parent].append(model)
        for other, nbytes in between.get(model, {}).items():
            if other not in taken:
                heapq.heappush(heap, (-nbytes, models[other], other, model))
    placed: list[tuple[int, int | None, int]] = []
    pending: list[tuple[int, int | None, int]] = [(root, None, 0)]
    while pending:
        model, parent, depth = pending.pop()
        placed.append((model, parent, depth))
        pending += [(child, model, depth + 1) for child in reversed(children[model])]
    return placed


def _kept(inventory: Inventory, groups: Sequence[Sequence[int]]) -> tuple[list[int], int]:
    """Return the bytes of bases that are kept for each group (last: for files of no model), and those nothing needs."""
    family = {model: number for number, group in enumerate(groups) for model in group}
    kept = [0] * (len(groups) + 1)
    extents, blobs = inventory.extents, inventory.blobs
    models = inventory.model_of_extent()
    used = inventory.first_use() >= 0
    needed = used.copy()
    base = blobs.bases[extents.blob]
    rows, first = np.unique(base[base >= 0], return_index=True)
    of_model = models[base >= 0][first]
    for row, model in zip(rows.tolist(), of_model.tolist(), strict=True):
        needed[row] = True
        if not used[row]:
            kept[family.get(model, len(groups))] += int(blobs.stored_nbytes[row])
    return kept, int(blobs.stored_nbytes[~needed].sum())
