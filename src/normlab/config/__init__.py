"""The typed config and everything that is checked before torch is imported."""
