"""How content comes in: the spool that takes it, the seal that ends it, the pipeline that compresses it."""
