"""Speed of single norms, beside PyTorch's own."""
