"""Normalisation methods, one file each; `base` is their contract."""
