"""Studies: which findings, how each is tuned and run, and what is kept of it. Imports no torch."""
