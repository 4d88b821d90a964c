"""A run's folder and a study's: the only place that knows their files and formats. Imports no torch."""
