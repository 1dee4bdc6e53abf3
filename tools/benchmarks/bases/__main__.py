"""Measures how bases are chosen and prints what a change of it is judged by.

Predictions beside real sizes, the search, a family of real models in several orders of arrival, and a simulated hub.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tools.benchmarks.bases import store
from tools.benchmarks.bases.prediction import (
    ITEMS,
    TIE,
    Prediction,
    families_of_models,
    generated_families,
    measure,
    models_of,
)
from tools.benchmarks.bases.search import Query, measure_clusters, measure_index
from tools.benchmarks.bases.store import Order, orders
from tools.benchmarks.codec.data import make_family
from tools.benchmarks.simulate.hub import simulation
from tools.benchmarks.simulate.hub.data import read_material

QUICK_ITEMS: Final = 1 << 16
HUB: Final = (200, 50_000)
"""Families and tensors of the simulated hub; tools/bench simulate/hub makes a large one."""
QUICK_HUB: Final = (20, 2_000)
INDEXES: Final = (100_000, 1_000_000, 8_000_000)
QUICK_INDEXES: Final = (100_000,)
PLANNED_FOR: Final = 30_000_000
COMMONEST: Final = 0.2
"""Assumed part of a hub's tensors that have the commonest length: the standalone ones among them are candidates."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`value` is the most that may be measured, or with `at_least` the least."""

    what: str
    value: float
    measured: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.measured >= self.value if self.at_least else self.measured <= self.value


def prediction_table(rows: list[Prediction]) -> Table:
    table = Table("tensors", title="Predicted and real coded sizes, errors in parts of the raw size")
    for heading in ("pairs", "mean error", "bias", "recall@1", f"within {TIE:.1%}", "stored over best"):
        table.add_column(heading, justify="right")
    for row in rows:
        parts = (f"{row.error:.2%}", f"{row.bias:+.2%}", f"{row.recall:.3f}", f"{row.recall_tie:.3f}")
        table.add_row(row.name, str(row.pairs), *parts, f"{row.lost:+.3%}")
    return table


def search_table(queries: list[Query]) -> Table:
    table = Table("candidates in one group", title="Search, all candidates of one dtype and length")
    for heading in ("query, ms", "planted found", "memory, MB", "build, s"):
        table.add_column(heading, justify="right")
    for query in [*queries, _extrapolated(queries[-1])]:
        table.add_row(
            f"{query.tensors:,}" + (" (extrapolated)" if query.tensors == PLANNED_FOR else ""),
            f"{query.query_s * 1e3:.2f}",
            f"{query.recall:.3f}",
            f"{query.index_nbytes / 1e6:.1f}",
            f"{query.build_s:.2f}",
        )
    return table


def _extrapolated(query: Query) -> Query:
    """A scan takes time in proportion."""
    times = PLANNED_FOR / query.tensors
    return Query(
        PLANNED_FOR, query.build_s * times, round(query.index_nbytes * times), query.query_s * times, query.recall
    )


def order_table(rows: list[Order]) -> Table:
    table = Table("first to come", title="Orders of arrival, MB")
    for heading in ("before optimize", "over the best", "after", "over the best", "packs", "search of ingest"):
        table.add_column(heading, justify="right")
    before, after = (min(nbytes) for nbytes in zip(*((r.before_nbytes, r.after_nbytes) for r in rows), strict=True))
    for row in rows:
        table.add_row(
            row.models[0],
            f"{row.before_nbytes / 1e6:.2f}",
            f"{row.before_nbytes / before - 1:+.2%}",
            f"{row.after_nbytes / 1e6:.2f}",
            f"{row.after_nbytes / after - 1:+.2%}",
            f"{row.packs_nbytes / 1e6:.2f}",
            f"{row.searching_s / row.ingest_s:.1%}",
        )
    return table


def goals(
    predictions: list[Prediction],
    queries: list[Query],
    arrivals: list[Order],
    grown: Order,
    hub: simulation.Figures,
) -> list[Goal]:
    """The figures that this part of ZipFS has to reach."""
    pairs = sum(row.pairs for row in predictions)
    before, after = [row.before_nbytes for row in arrivals], [row.after_nbytes for row in arrivals]
    largest = queries[-1]
    candidates = hub.bases_online / hub.tensors * COMMONEST
    searching = sum(row.searching_s for row in arrivals) / sum(row.ingest_s for row in arrivals)
    return [
        Goal("mean error, of raw", 0.03, sum(row.error * row.pairs for row in predictions) / pairs),
        Goal("recall@1, real family", 0.99, predictions[0].recall, at_least=True),
        Goal(f"recall@1 within {TIE:.1%}, real family", 0.99, predictions[0].recall_tie, at_least=True),
        Goal("query at 1 M in one group, ms", 5.0, 1e3 * largest.query_s * 1e6 / largest.tensors),
        Goal("query in a hub of 30 M, ms", 20.0, 1e3 * _extrapolated(largest).query_s * candidates),
        Goal("worst order over best, before", 0.03, max(before) / min(before) - 1),
        Goal("worst order over best, after", 0.01, max(after) / min(after) - 1),
        Goal("search, of ingest, tensors of 8 MiB", 0.10, grown.searching_s / grown.ingest_s),
        Goal("search, of ingest, half of them tiny", 0.10, searching),
        Goal("hub: planned over as they come", 0.80, hub.planned_nbytes / hub.as_they_come_nbytes),
        Goal("hub: planned over exact", 1.02, simulation.over_exact(hub)),
    ]


def goal_table(rows: list[Goal]) -> Table:
    table = Table("what", title="Goals")
    for heading in ("goal", "measured", "reached"):
        table.add_column(heading, justify="right")
    for goal in rows:
        bound = f"{'>=' if goal.at_least else '<='} {goal.value:g}"
        table.add_row(goal.what, bound, f"{goal.measured:.4f}", "yes" if goal.reached else "no")
    return table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench bases", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="a small part of each")
    parser.add_argument(
        "--family", type=Path, metavar="DIR", help="a folder of models; without it one is made and removed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory() as scratch:
        family = arguments.family or make_family(Path(scratch))
        print(f"bench: predictions, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        families = [*families_of_models(family), *generated_families(QUICK_ITEMS if arguments.quick else ITEMS)]
        predictions = list(measure(families))
        print("bench: search", file=sys.stderr)
        queries = [measure_index(tensors) for tensors in (QUICK_INDEXES if arguments.quick else INDEXES)]
        clustering_s, clusters = measure_clusters(10_000 if arguments.quick else 200_000, 20)
        print("bench: orders of arrival", file=sys.stderr)
        models = models_of(family)
        chosen = orders(list(models))
        arrivals = list(store.measure(models, chosen[:2] if arguments.quick else chosen))
        large = store.write_large(Path(scratch) / "large")
        (grown,) = store.measure(large, [tuple(large)])
        hub = simulation.run(read_material(family), *(QUICK_HUB if arguments.quick else HUB))
    console.print(prediction_table(predictions))
    console.print(search_table(queries))
    console.print(f"{clusters} families of 20 tensors were told apart in {clustering_s:.1f} s")
    console.print(order_table(arrivals))
    simulation.print_figures(console, hub)
    reached = goals(predictions, queries, arrivals, grown, hub)
    console.print(goal_table(reached))
    if arguments.json:
        document: dict[str, Any] = {
            "predictions": [asdict(row) for row in predictions],
            "search": [asdict(query) for query in queries],
            "orders": [asdict(row) for row in arrivals],
            "hub": asdict(hub),
            "goals": [asdict(goal) for goal in reached],
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
