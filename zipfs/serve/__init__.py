"""Reading the tree, with no word of FUSE.

from zipfs.serve import Library

with Library("/store") as library:
    library.read("my-model/config.json")
"""

from zipfs.serve.content import Content, open_content
from zipfs.serve.library import Library, Node
from zipfs.serve.reader import Reader

__all__ = ["Content", "Library", "Node", "Reader", "open_content"]
