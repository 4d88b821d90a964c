"""Multiruns: from overrides to planned runs, launched, watched and reported. Imports no torch."""
