"""`zipfs report`: what a store holds and saves, as one HTML file that needs nothing else."""
