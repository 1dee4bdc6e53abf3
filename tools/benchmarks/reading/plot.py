"""Draws what was measured.  Usage: plot.py SAMPLES.csv PLOT.png TITLE; needs matplotlib.

A panel for each case, a bar for the median of each contender, a dot for each sample.
"""

from __future__ import annotations

import csv
import statistics
import sys
from importlib import import_module
from typing import Any

COLUMNS = 3
COLOURS = {"ZipFS": "#1f77b4", "ZipFS, ordinary user": "#7fb4dc", "plain file": "#555555"}
OTHER_COLOUR = "#c7c7c7"

Bars = dict[str, list[float]]
"""Label -> samples."""


def panels(rows: list[dict[str, str]]) -> dict[str, Bars]:
    """Title -> bars, for throughput and for latencies."""
    found: dict[str, Bars] = {}
    for row in rows:
        if row["failure"]:
            continue
        state = f"\n{row['state']}" if row["contender"].startswith("ZipFS") and row["state"] != "cached" else ""
        label = row["contender"] + state
        if row["p50_ms"]:
            figures = {"p50": row["p50_ms"], "p99": row["p99_ms"]}
            for name, value in figures.items():
                if row["case"].startswith("random") or name == "p50":
                    title = (
                        f"{row['case']}{', ' + name if row['case'].startswith('random') else ''} (ms, less is better)"
                    )
                    found.setdefault(title, {}).setdefault(label, []).append(float(value))
        elif row["gb_s"]:
            found.setdefault(f"{row['case']} (GB/s)", {}).setdefault(label, []).append(float(row["gb_s"]))
    return found


def draw(axes: Any, title: str, bars: Bars) -> None:
    labels = list(reversed(bars))
    medians = [statistics.median(bars[label]) for label in labels]
    colours = [COLOURS.get(label.split("\n")[0], OTHER_COLOUR) for label in labels]
    axes.barh(range(len(labels)), medians, color=colours, height=0.7)
    for position, label in enumerate(labels):
        axes.plot(bars[label], [position] * len(bars[label]), ".", color="black", markersize=3, alpha=0.5)
        axes.annotate(
            f"{medians[position]:.2f}", (medians[position], position), (4, -3), textcoords="offset points", fontsize=7
        )
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlim(left=0)
    axes.set_ylim(min(len(labels) - 5, 0) - 0.6, len(labels) - 0.4)
    axes.margins(x=0.15)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    source, target, title = sys.argv[1:]
    with open(source, newline="") as file:
        found = panels(list(csv.DictReader(file)))
    if not found:
        sys.exit(f"bench: {source} has nothing to draw")
    try:
        matplotlib = import_module("matplotlib")
    except ModuleNotFoundError:
        sys.exit("bench: matplotlib is not installed, so nothing is drawn")
    matplotlib.use("Agg")
    lines = -(-len(found) // COLUMNS)
    figure, grid = import_module("matplotlib.pyplot").subplots(
        lines, COLUMNS, figsize=(5 * COLUMNS, 2.8 * lines), squeeze=False, layout="constrained"
    )
    for axes, item in zip(grid.flat, found.items(), strict=False):
        draw(axes, *item)
    for axes in list(grid.flat)[len(found) :]:
        axes.set_axis_off()
    figure.suptitle(f"Reading through a mount, {title}", fontsize=11)
    figure.savefig(target, dpi=130)


if __name__ == "__main__":
    main()
