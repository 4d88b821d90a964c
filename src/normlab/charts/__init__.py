"""Charts drawn with Matplotlib, in one style, for page and papers. Imports no torch."""
