"""`python -m zipfs.cli`; run by its path, in an isolated interpreter, the program of daemon and worker."""

import sys
from pathlib import Path

if not __package__:
    # The interpreter does not look beside a program for its package: it is looked for there once, and first. What else
    # lies there comes last: next to a checkout that may be anything.
    beside = str(Path(__file__).resolve().parents[2])
    sys.path.insert(0, beside)
    import zipfs  # noqa: F401

    sys.path.append(sys.path.pop(0))

from zipfs.cli.main import main

main()
