"""Packs: immutable files of frames. Their format, writer, reader and byte ranges."""
