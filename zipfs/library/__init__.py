"""The public Python API: the files of a store without a mount.

from zipfs.library import Library

with Library("/store") as library:
    library.read("my-model/config.json")
"""

from zipfs.library.library import Library, Node

__all__ = ["Library", "Node"]
