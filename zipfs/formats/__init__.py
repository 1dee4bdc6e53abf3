"""Bytes of a container to the spans that it is made of; what no parser takes is opaque.

Pure: the only way to a file is the reader that the caller passes in. Knows nothing
of ours but errors and item types. Any thread may call it.
"""

from __future__ import annotations

from zipfs.formats.layout import OPAQUE, Layout, Read, Refusal, Span, opaque
from zipfs.formats.registry import PARSERS, Parser, cut_runs, lay_out
from zipfs.formats.safetensors import parse_safetensors

__all__ = [
    "OPAQUE",
    "PARSERS",
    "Layout",
    "Parser",
    "Read",
    "Refusal",
    "Span",
    "cut_runs",
    "lay_out",
    "opaque",
    "parse_safetensors",
]
