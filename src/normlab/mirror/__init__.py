"""W&B and other places that copy what a run records. Nothing here decides a result."""
