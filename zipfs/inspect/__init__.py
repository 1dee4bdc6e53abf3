"""What is stored how and rests on what: the inventory of a store, and reports on families, directories and files."""
