"""The names of files in a cache of the Hugging Face hub.

There a file is `models--ORG--NAME/blobs/HASH`, and what a person calls it is a symlink to that,
`models--ORG--NAME/snapshots/REVISION/FILE`. Used by the thread whose catalog it is.
"""

from __future__ import annotations

import os
import re
from typing import Final

from zipfs.errors import PathError
from zipfs.store.catalog.queries import Catalog
from zipfs.store.namespace import tree

_BLOB: Final = re.compile(rb"((?:.*/)?(?:models|datasets|spaces)--[^/]+)/blobs/[^/]+", re.DOTALL)
_LINKS_AT_MOST: Final = 10_000
"""Of one model. More are not looked at, and go by their hashes."""


class HubNames:
    """Finds what people call a file. Each cached model is looked through once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[bytes, dict[bytes, bytes]] = {}

    def name(self, path: bytes) -> bytes:
        """Return the first symlink of a snapshot that leads to a cached file; any other path as it is."""
        match = _BLOB.fullmatch(path)
        if match is None:
            return path
        model = match[1]
        if model not in self._found:
            self._found[model] = self._links(model)
        return self._found[model].get(path, path)

    def _links(self, model: bytes) -> dict[bytes, bytes]:
        """Map each cached file to its symlink."""
        top = model + b"/snapshots"
        try:
            start = tree.resolve(self._catalog, top)
        except PathError:
            return {}
        links: dict[bytes, bytes] = {}
        for seen, (path, inode) in enumerate(tree.walk(self._catalog, start, top)):
            if seen >= _LINKS_AT_MOST:
                break
            if inode.target is not None:
                links.setdefault(os.path.normpath(os.path.join(os.path.dirname(path), inode.target)), path)
        return links
