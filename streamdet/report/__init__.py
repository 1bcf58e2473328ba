"""One day out of the event store as one HTML file that needs nothing else."""
