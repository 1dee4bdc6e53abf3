"""Values as the text that commands print: units, tables, progress, JSON."""
