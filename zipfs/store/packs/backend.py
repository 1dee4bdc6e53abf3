"""What a store needs of the place where its packs are kept.

A local directory is the first such place (`local.py`). Another one implements these two protocols and `PackFile`, and
passes `tests/contracts/test_pack_backend.py`. A pack is created once, whole, and never changed. Only the holder of the
store's pack lock creates or deletes packs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from zipfs.store.objects.values import PackName
from zipfs.store.packs.file import PackFile


class PackPart(Protocol):
    """A pack that is being written. No reader finds it. Used by one thread at a time.

    Ends with `finish` or with `discard`, and is used no more then, but that `discard` may be called again.
    """

    @property
    def file(self) -> PackFile:
        """Return the pack as it is so far, readable while it is being written."""

    @property
    def nbytes(self) -> int:
        """Return how much was appended and not taken back."""

    @property
    def on_disk_nbytes(self) -> int:
        """Return how much of it a read brings back from where the pack is kept, and not from memory."""

    def append(self, data: bytes | memoryview) -> None:
        """Write what follows, now or, with others, up to `sync`. Raises OSError."""

    def truncate(self, nbytes: int) -> None:
        """Take back all but the first `nbytes` bytes."""

    def sync(self) -> None:
        """Make durable what was appended, so that no power cut can take it from `finish` on. Raises OSError."""

    def finish(self, named: Callable[[], None]) -> None:
        """Create the pack, all of it at once or not at all; on return it is durable under its name.

        Calls `named` as soon as a reader may find it. Raises FileExistsError where there is a pack of that name, which
        stays as it is, and OSError.
        """

    def discard(self) -> None:
        """Remove every trace of a part that was not finished. Leaves a finished pack alone."""


class PackBackend(Protocol):
    """The packs of one store. Any thread may call."""

    def where(self, name: PackName) -> str:
        """Return what messages call a pack, whether it is there or not."""

    def names(self) -> Iterable[PackName]:
        """Return every finished pack, in no order."""

    def exists(self, name: PackName) -> bool:
        """Return whether a finished pack is there."""

    def nbytes(self, name: PackName) -> int:
        """Return the length of a finished pack. Raises FileNotFoundError."""

    def open(self, name: PackName) -> PackFile:
        """Return a finished pack. Called often: what is costly about it is kept.

        Raises FileNotFoundError where the pack is gone (the caller then looks up the blob again), Damaged, NotAllowed.
        """

    def begin(self, name: PackName) -> PackPart:
        """Return a new, empty part. Raises FileExistsError where that pack is being written, and OSError."""

    def delete(self, name: PackName) -> None:
        """Delete a finished pack if it is there. Whoever has it open can still read it. Raises OSError."""

    def release_deleted(self) -> None:
        """Let go of what is kept for packs that another process has deleted."""

    def unfinished(self) -> Iterable[str]:
        """Return what messages call each part that was neither finished nor discarded."""

    def clear_unfinished(self) -> None:
        """Discard every part. Only for the holder of the pack lock, which says that nobody is writing them."""
