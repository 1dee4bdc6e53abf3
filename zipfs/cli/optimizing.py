"""`zipfs optimize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zipfs.cli.output import counting, json_option, print_json, ratio, say, size

if TYPE_CHECKING:
    from zipfs.lineage.planner import Plan


@click.command("optimize")
@click.argument("store", type=click.Path(path_type=Path, readable=False))
@click.option("--dry-run", is_flag=True, help="Only tell what would be gained.")
@json_option
def optimize_command(store: Path, dry_run: bool, as_json: bool) -> None:
    """Find better bases for what STORE holds, and code anew what gains by it.

    \b
    Example:
      zipfs optimize /store --dry-run
    """
    from zipfs.lineage.planner import in_order_of_gain
    from zipfs.lineage.resketch import make_sketches
    from zipfs.lineage.survey import survey
    from zipfs.store.store import open_store

    with open_store(store) as opened, counting() as report:
        make_sketches(opened, report)
        plans = list(survey(opened, report))
    _tell_plan(plans, in_order_of_gain(plans), as_json)


def _tell_plan(plans: list[Plan], chosen: list[Plan], as_json: bool) -> None:
    before = sum(plan.before_nbytes for plan in plans)
    gain = sum(plan.gain_nbytes for plan in chosen)
    moved = sum(plan.moved_nbytes for plan in chosen)
    moves = sum(len(plan.moves) for plan in chosen)
    if as_json:
        print_json(
            {
                "families": len(plans),
                "before_nbytes": before,
                "gain_nbytes": gain,
                "tensors_to_code": moves,
                "nbytes_to_code": moved,
            }
        )
    else:
        say(f"{len(plans)} families take {size(before)}")
        say(f"coding {moves} tensors ({size(moved)}) anew would save {size(gain)} ({ratio(gain, before)})")
