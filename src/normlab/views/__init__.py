"""From the rows of a column to arrays: one file per view, and the columns themselves. Imports no torch."""
