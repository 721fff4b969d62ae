"""What does Merlin do? It asks, decides, acts and serves; what happened is in the logs, and nowhere else."""
