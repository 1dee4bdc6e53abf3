"""Files and rights of a store, locks, free space, requests to stop, progress, and fault points."""
