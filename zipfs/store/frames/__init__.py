"""Decoded frames: what to read, where they are kept, and which are dropped."""
