"""Packs, catalog and manifest log: everything durable. `FORMAT.md` describes the bytes."""
