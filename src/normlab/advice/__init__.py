"""Which norm for which network: what findings measured, looked up by model and condition. Imports no torch."""
