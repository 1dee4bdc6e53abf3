"""Features of a tensor, the index that finds related ones by them, and the choice of a base."""
