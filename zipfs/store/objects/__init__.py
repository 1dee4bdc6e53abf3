"""Immutable values of the catalog (inodes, entries, extents, blobs, base views) and their checksums. Pure."""
