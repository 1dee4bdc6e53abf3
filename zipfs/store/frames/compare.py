"""Owns the comparison of raw bytes with decoded ones. Pure; any thread may call, and holds no other one up meanwhile."""

from __future__ import annotations

from zipfs.store.frames._native import same_bytes

__all__ = ["same_bytes"]
