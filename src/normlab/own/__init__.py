"""A network of the user's as a model of the pipeline (`model=module`), with its own norms or others."""
