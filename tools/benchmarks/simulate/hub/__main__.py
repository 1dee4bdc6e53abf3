"""Plans a simulated hub of models by sketches and prints what planning its bases is worth.

A million tensors of 2,000 families take about an hour; --tensors 50000 --families 200 some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tools.benchmarks.codec.data import make_family
from tools.benchmarks.simulate.hub.data import read_material
from tools.benchmarks.simulate.hub.simulation import print_figures, run


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench simulate/hub", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--families", type=int, default=2000, metavar="N")
    parser.add_argument("--tensors", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--family", type=Path, metavar="DIR", help="a folder of models to take statistics of; without it one is made"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    os.nice(10)
    with tempfile.TemporaryDirectory() as scratch:
        material = read_material(arguments.family or make_family(Path(scratch)))
    figures = run(material, arguments.families, arguments.tensors, arguments.seed)
    print_figures(Console(width=None if sys.stdout.isatty() else 120), figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
