"""A thin adapter of the tree to the kernel, by pyfuse3 and trio. `CONCURRENCY.md` states what holds between threads."""
