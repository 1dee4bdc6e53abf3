"""Writes a file in pieces and prints the seconds that it took, closing it included: a process that can be given up.

Usage: writer.py FILE NBYTES_EACH COUNT
"""

from __future__ import annotations

import os
import sys
import time


def write_pieces(path: str, nbytes: int, count: int) -> float:
    piece = os.urandom(nbytes)
    began_s = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for _ in range(count):
        os.write(fd, piece)
    os.close(fd)
    return time.perf_counter() - began_s


if __name__ == "__main__":
    print(write_pieces(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
