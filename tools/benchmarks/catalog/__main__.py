"""Measures what the catalog of a store of small tensors takes: bytes a tensor by table, and its share of the packs.

Models are made, stored and deleted a few at a time; families take turns, and of each the base comes first. Each quarter
of the models is timed by itself, which shows whether the search takes longer as the store grows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tools.benchmarks.catalog.growth import Made, grow
from tools.benchmarks.catalog.tables import print_figures


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench catalog", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--families", type=int, default=20, metavar="N")
    parser.add_argument("--models", type=int, default=600, metavar="N", help="of all families")
    parser.add_argument("--tensors", type=int, default=16, metavar="N", help="of a model")
    parser.add_argument("--items", type=int, default=384 * 400, metavar="N", help="of a tensor, in BF16")
    parser.add_argument("--noise", type=float, default=0.01, help="of a fine-tune, over the deviation of the weights")
    parser.add_argument("--shuffle", action="store_true", help="models come in any order, bases as well")
    parser.add_argument("--dir", type=Path, help="work in this directory (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    made = Made(
        arguments.families,
        arguments.models,
        arguments.tensors,
        arguments.items,
        arguments.noise,
        shuffled=arguments.shuffle,
    )
    with tempfile.TemporaryDirectory(prefix="zipfs-catalog-", dir=arguments.dir) as scratch:
        figures = grow(made, Path(scratch))
    print_figures(Console(width=None if sys.stdout.isatty() else 120), figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
