"""The served tree and the ingest tree as operations on a store, with no word of FUSE."""
