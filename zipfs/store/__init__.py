"""Everything durable: packs, catalog, manifest log, spool. `FORMAT.md` describes the bytes."""
