"""`python -m zipfs.cli`."""

from zipfs.cli.main import main

main()
