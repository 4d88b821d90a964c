"""How a run is asked to stop: signals, and what SLURM says of its jobs. Imports no torch."""
