"""What a store needs beside ingest and reading: collect, check, repair, rebuild, remove."""
