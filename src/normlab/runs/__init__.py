"""A run's identity, its folder and its records. Imports no torch."""
