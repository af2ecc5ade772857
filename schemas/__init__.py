"""The wire contract: everything that the hub and the agencies share, and nothing else."""
