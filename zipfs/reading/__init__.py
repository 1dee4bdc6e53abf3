"""Reads stored content: slices of a file, readahead, windows of decoded bytes, the reader."""

from zipfs.reading.content import Content, open_content
from zipfs.reading.reader import Reader

__all__ = ["Content", "Reader", "open_content"]
