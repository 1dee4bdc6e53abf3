"""Owns the comparison of raw bytes with decoded ones. Pure; any thread may call, and the GIL is released meanwhile."""

from __future__ import annotations

from zipfs.store.frames._native import same_bytes

__all__ = ["same_bytes"]
