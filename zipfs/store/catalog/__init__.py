"""The catalog and its manifest log: the schema, typed queries and writes, transactions."""
