"""ZipFS: a lossless, deduplicating store for model checkpoints that can be mounted."""

__version__ = "0.1.0"
