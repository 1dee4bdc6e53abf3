"""The tree and its ingest side: what links, moves and removals do to inodes and entries."""
