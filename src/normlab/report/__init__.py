"""From the tables of studies to a page, figures, LaTeX tables and advice. Reads only; imports no torch."""
