"""Studies read for display, and their numbers in plain words. Imports no torch."""
