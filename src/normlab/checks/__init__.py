"""From what Hydra composed to a checked config: every check that needs more than one option. Imports no torch."""
