"""Durable files, rights, locks, free space, and the points where a test may have a process die."""
