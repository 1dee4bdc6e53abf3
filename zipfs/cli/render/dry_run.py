"""What `zipfs ingest --dry-run` prints. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zipfs.cli.render.table import Column, lay_out_table
from zipfs.cli.render.units import counted, ratio, size
from zipfs.host import printable
from zipfs.ingest.dry_run import PlannedFile
from zipfs.ingest.plan import Encode, Step
from zipfs.store.objects.values import BlobId

Origin = Callable[[BlobId], tuple[str, str | None]]
"""The file in which a blob is found first, and the name of the tensor there."""

_COLUMNS = (
    Column("tensor", number=False, least=20),
    Column("size"),
    Column("adds"),
    Column("stored how", number=False, least=20),
    Column("why", number=False, least=14, dispensable=1),
)


def planned_file_text(planned: PlannedFile, origin: Origin, width: int | None) -> Iterator[str]:
    """Describe how a file would be stored, for a terminal of `width` cells; `origin` tells where a blob is from."""
    adds = planned.plan.predicted_nbytes
    yield f"{printable(planned.shown)}: {size(planned.nbytes)} would add about {size(adds)} ({_share(planned)})"
    rows = [_row(step, origin) for step in planned.plan.steps]
    if rows:
        yield from lay_out_table(_COLUMNS, rows, width)
    yield ""


def dry_run_total(files: int, nbytes: int, predicted_nbytes: int, unpredicted_nbytes: int) -> str:
    """Sum up what would be stored; of `predicted_nbytes` so many are raw bytes, which may become fewer."""
    raw = f" ({size(unpredicted_nbytes)} of it counted uncompressed)" if unpredicted_nbytes else ""
    about = f"{size(nbytes)} would add about {size(predicted_nbytes)}{raw}"
    return f"{counted(files, 'file')}: {about}; nothing was written"


def _share(planned: PlannedFile) -> str:
    return ratio(planned.plan.predicted_nbytes, planned.nbytes)


def _row(step: Step, origin: Origin) -> list[str]:
    name = "(bytes)" if step.span.name is None else printable(step.span.name)
    if isinstance(step, Encode):
        return [name, size(step.span.nbytes), size(step.predicted_nbytes), _how(step, origin), _why(step)]
    return [name, size(step.span.nbytes), size(0), f"same as {_named(origin(step.blob_id), step)}", step.reason]


def _how(step: Encode, origin: Origin) -> str:
    base = step.choice.base
    if base is None:
        return "standalone" if step.span.dtype else "bytes"
    cast = "" if base.view.cast is None else f"{base.view.cast.source} as {base.view.cast.target} "
    return f"against {cast}{_named(origin(base.blob_id), step)}"


def _named(origin: tuple[str, str | None], step: Step) -> str:
    """Name where a blob is from, without what it has in common with the tensor."""
    path, tensor = origin
    return printable(path if tensor in (None, step.span.name) else f"{path} {tensor}")


def _why(step: Encode) -> str:
    among = len(step.choice.considered)
    return f"{step.choice.reason} (of {counted(among, 'candidate')})" if among else str(step.choice.reason)
