"""Rebase stored tensors onto better bases: after an ingest, when a worker is idle, or when asked to."""
