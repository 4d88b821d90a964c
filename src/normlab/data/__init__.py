"""Data sets as tensors: sources, materialising, batches."""
