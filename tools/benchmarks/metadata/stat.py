"""Asks for the attributes of random files of the tree, in a process of its own that can be killed.

Prints a line of JSON: stat(2) calls a second, and the median and the 99th percentile of one, in microseconds.  Run by
tools/bench metadata:  python -m tools.benchmarks.metadata.stat TOP FILES COUNT SEED
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

from tools.benchmarks.metadata.tree import plan_tree


def main() -> None:
    top, files, count, seed = sys.argv[1], *map(int, sys.argv[2:])
    chosen = random.Random(seed).sample(plan_tree(files), min(count, files))
    paths = [os.path.join(os.fsencode(top), file.path) for file in chosen]
    spent_ns = []
    for path in paths:
        began_ns = time.perf_counter_ns()
        os.lstat(path)
        spent_ns.append(time.perf_counter_ns() - began_ns)
    spent_ns.sort()
    figures = {
        "rate": len(spent_ns) / sum(spent_ns) * 1e9,
        "p50_us": spent_ns[len(spent_ns) // 2] / 1e3,
        "p99_us": spent_ns[len(spent_ns) * 99 // 100] / 1e3,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
