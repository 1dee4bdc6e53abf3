"""Cases of try_clients: checkpoints of torch.distributed, by one rank and by two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tools.clients.models import library
from tools.clients.side import Side, again, beside, names, printed


def distributed_checkpoint(side: Side) -> None:
    """A checkpoint of torch.distributed is served whole, and again when it is saved over."""
    torch, dcp = library("torch"), library("torch.distributed.checkpoint")
    side.varying = ("*/.metadata",)  # names of saves
    for number in (1, 2):
        tensors = {"model": {"w": torch.full((400, 500), float(number)), "step": torch.tensor(number)}}
        dcp.save(tensors, checkpoint_id=str(side.target / "dcp"), no_dist=True)
        side.outlast_linger()
        side.note(f"save {number}: files", names(side.served / "dcp"))
        found = {"model": {"w": torch.zeros(400, 500), "step": torch.tensor(0)}}
        dcp.load(found, checkpoint_id=str(side.served / "dcp"), no_dist=True)
        side.note(f"save {number}: loaded", (found["model"]["w"].mean().item(), found["model"]["step"].item()))


@contextmanager
def _group(rank: str, meeting: str) -> Iterator[Any]:
    """The device mesh of two processes that find each other by a file."""
    distributed = library("torch.distributed")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=2)
    try:
        yield library("torch.distributed.device_mesh").init_device_mesh("cpu", (2,))
    finally:
        distributed.destroy_process_group()


def rank_saves(checkpoint: str, meeting: str, number: str, rank: str) -> None:
    """One of two ranks that save what they share, over what was there, the odd times in the background."""
    torch, dcp, tensor = library("torch"), library("torch.distributed.checkpoint"), library("torch.distributed.tensor")
    with _group(rank, meeting) as mesh:
        full = torch.arange(400_000.0).reshape(800, 500) * int(number)
        shared = {
            "rows": tensor.distribute_tensor(full, mesh, [tensor.Shard(0)]),
            "columns": tensor.distribute_tensor(full + 1, mesh, [tensor.Shard(1)]),
            "step": torch.tensor(int(number)),
        }
        if int(number) % 2:
            dcp.async_save(shared, checkpoint_id=checkpoint).result()
        else:
            dcp.save(shared, checkpoint_id=checkpoint)


def rank_loads(checkpoint: str, meeting: str, number: str, rank: str) -> None:
    """One of two ranks that load it."""
    torch, dcp, tensor = library("torch"), library("torch.distributed.checkpoint"), library("torch.distributed.tensor")
    with _group(rank, meeting) as mesh:
        zeros = torch.zeros(800, 500)
        found = {
            "rows": tensor.distribute_tensor(zeros, mesh, [tensor.Shard(0)]),
            "columns": tensor.distribute_tensor(zeros.clone(), mesh, [tensor.Shard(1)]),
            "step": torch.tensor(0),
        }
        dcp.load(found, checkpoint_id=checkpoint)
        full = torch.arange(400_000.0).reshape(800, 500) * int(number)
        rows, columns = found["rows"].full_tensor(), found["columns"].full_tensor()
        print(f"@{found['step'].item()} {torch.equal(rows, full)} {torch.equal(columns, full + 1)}")


def two_ranks(side: Side) -> None:
    """Two ranks save a checkpoint over itself and load it; one process makes a file of torch.save of it."""
    convert = library("torch.distributed.checkpoint.format_utils")
    side.varying = ("*/.metadata",)
    for number in (1, 2, 3):
        for function, checkpoint in (("rank_saves", side.target / "dcp2"), ("rank_loads", side.served / "dcp2")):
            meeting = side.scratch / f"{function}{number}"
            with beside(__name__, function, checkpoint, meeting, number, 1) as other:
                said = again(__name__, function, checkpoint, meeting, number, 0)
            if function == "rank_loads":
                side.note(f"save {number}: loaded by rank 0", printed(said))
                side.note(f"save {number}: loaded by rank 1", printed("\n".join(other)))
            else:
                side.outlast_linger()
                side.note(f"save {number}: files", names(side.served / "dcp2"))
    convert.dcp_to_torch_save(str(side.served / "dcp2"), str(side.target / "whole.pt"))
    side.note("as one file", library("torch").load(side.target / "whole.pt")["rows"].sum().item())
