"""From a table of runs to what it says about a question. Imports no torch."""
