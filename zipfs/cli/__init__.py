"""The `zipfs` command. Each command is imported when it is called, so that help and errors come at once."""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # So it is while `python -m zipfs.cli` looks for us, with the current directory before all others: whatever lies
    # there would be taken for a module. It comes last, for the package itself may have been found there.
    sys.path.append(sys.path.pop(0))

from zipfs.cli.main import main

__all__ = ["main"]
