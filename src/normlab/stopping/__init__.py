"""How a process is asked to stop (signals, SLURM), and output that fails without stopping it. Imports no torch."""
