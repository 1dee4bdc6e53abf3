"""Collect, check, repair and remove: what a store needs beside ingest and reading."""
