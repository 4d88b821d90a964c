"""What the notebooks start with: imports, the look of their figures, and helpers that would distract in a lesson."""
