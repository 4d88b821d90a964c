"""What files of others may name: docs/trust.md. Imports no torch."""
