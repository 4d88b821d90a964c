"""Comparing times: alternating blocks of work, in a fresh process, on real batches."""
