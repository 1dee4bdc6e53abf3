"""The protocol by which a new pack becomes part of a store, be it made by ingest, rebase, collection or repair.

`STEPS` is the protocol, in order. A caller appends blobs to `NewPack.writer` and then calls `NewPack.publish` with the
two things that only it knows: what the blobs are compared with, and what else belongs into the transaction that adds
the pack. The caller holds the pack lock from before the first blob to the end.

A kill at any step costs space at most: before the record is in the log nothing refers to the pack, and from then on
whoever writes next completes the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self, get_args

from zipfs.store.catalog.writes import Transaction
from zipfs.store.disk import faults
from zipfs.store.objects.values import PackName
from zipfs.store.packs.pack_format import PackedBlob
from zipfs.store.packs.writer import PackWriter
from zipfs.store.store import Store


@dataclass(frozen=True, slots=True)
class Step:
    """One step of publishing a pack."""

    name: str
    fault: str | None
    """The last part of the name of the fault point that the step ends with, if it changes anything that outlives us."""
    does: str


STEPS: Final = (
    _WRITE := Step("write", "pack-written", "Append all frames to a part, which no reader looks at."),
    _SYNC := Step("sync", "pack-synced", "Append index and trailer; on return all of it is on the disk."),
    Step("read back", None, "Drop what the page cache holds of the part, so that the next step reads from the disk."),
    _VERIFY := Step(
        "verify",
        "pack-verified",
        "Compare each blob, as it is stored now, with what it was made of; what was on the disk before may be by now.",
    ),
    _RENAME := Step("rename", "pack-renamed", "Give the part the name of the pack; then sync the directory."),
    Step("log", "logged", "Append the record of the transaction to the manifest log; sync it."),
    Step("commit", "committed", "Commit the transaction to the catalog."),
    Step("keep", None, "After the commit, and wherever a record may name the pack: leave it."),
    Step("abandon", None, "After a failure, where no record names the pack: remove every trace of it."),
)
"""What happens to a new pack, in order; the last two are the two ways in which it ends."""

Caller = Literal["ingest", "optimize", "gc", "repair"]
"""Who publishes packs; the first part of the names of its fault points."""


def fault_points(caller: Caller) -> tuple[str, ...]:
    """Return the fault points that each pack of `caller` passes, in order."""
    return tuple(f"{caller}.{step.fault}" for step in STEPS if step.fault is not None)


FAULT_POINTS: Final = tuple(point for caller in get_args(Caller) for point in fault_points(caller))


@dataclass(frozen=True, slots=True)
class Published:
    """A pack that is in the catalog."""

    name: PackName
    nbytes: int
    blobs: Sequence[PackedBlob]


class NewPack:
    """A pack from its first frame to its commit.

    As a context manager it gives the pack up unless it was published. Without one, whoever made it calls `give_up`
    after a failure.
    """

    def __init__(self, store: Store, caller: Caller) -> None:
        self._store = store
        self._caller: Caller = caller
        self._ended = False
        self.writer = PackWriter(store.packs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_up()

    def publish(
        self, verify: Callable[[Sequence[PackedBlob]], None], write: Callable[[Transaction], None]
    ) -> Published:
        """Put the pack on the disk and into the catalog, by all of `STEPS`.

        `verify` compares the blobs that it is given with what they were made of, and raises where one differs: nothing
        is published then. `write` makes the changes that are to be committed together with the pack. Raises what they
        raise, and what `Store.transaction` does; the pack is given up then.
        """
        try:
            published = self._publish(verify, write)
        except BaseException:
            self.give_up()
            raise
        self._ended = True
        return published

    def _publish(
        self, verify: Callable[[Sequence[PackedBlob]], None], write: Callable[[Transaction], None]
    ) -> Published:
        writer = self.writer
        self._passed(_WRITE)
        writer.sync()
        self._passed(_SYNC)
        writer.file.forget_cached()
        verify(writer.blobs)
        self._passed(_VERIFY)
        writer.finish(lambda: self._passed(_RENAME))
        with self._store.transaction(durable=True, fault=self._caller) as txn:
            txn.add_pack(writer.name, writer.nbytes, [packed.blob for packed in writer.blobs])
            write(txn)
        return Published(writer.name, writer.nbytes, writer.blobs)

    def _passed(self, step: Step) -> None:
        faults.point(f"{self._caller}.{step.fault}")

    def give_up(self) -> None:
        """Remove every trace of the pack, unless it has been published or may be yet.

        A pack that may be in the catalog stays: a record of the log that could not be taken back makes whoever writes
        next put it there, and drop the packs that it replaces. If it is not, the next collection deletes it.
        """
        if self._ended:
            return
        self._ended = True
        if not (self.writer.named and self._may_be_listed()):
            self.writer.abandon()

    def _may_be_listed(self) -> bool:
        try:
            with self._store.transaction() as txn:  # applies what is in the log
                return self.writer.name in txn.catalog.packs()
        except Exception:  # noqa: BLE001  # what cannot be known may be so
            return True
