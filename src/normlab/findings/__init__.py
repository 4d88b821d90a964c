"""From a table of runs to the verdict on a claim. Imports no torch."""
