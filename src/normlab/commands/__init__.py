"""The commands of `normlab`."""
