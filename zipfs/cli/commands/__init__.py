"""The commands of `zipfs`, one a module."""
