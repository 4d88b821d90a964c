"""What a run measures: config in, flat summary out."""
