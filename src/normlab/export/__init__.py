"""A trained network made ready to serve: its norms folded as far as that is exact, and exported."""
