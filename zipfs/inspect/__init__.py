"""What is stored how, and on what it rests: the inventory, families, reports on a file and on a directory."""
