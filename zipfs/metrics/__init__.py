"""Counters, their snapshots and the text that Prometheus reads. Knows nothing of what is counted."""
