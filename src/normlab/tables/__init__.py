"""The table of all runs, and arms compared by it. Imports no torch."""
