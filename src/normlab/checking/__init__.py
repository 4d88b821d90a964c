"""A short training of the user's own code, watched: what `normlab check` runs."""
