"""Which stored tensors of a cluster are to be bases: costs, facility location, plans for a whole store."""
