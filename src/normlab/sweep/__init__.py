"""Multiruns: from choices to planned runs, launched, watched and reported. Imports no torch."""
