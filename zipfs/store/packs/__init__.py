"""Packs, immutable files of frames: format, writer, reader, byte ranges, and the backend that keeps them."""
