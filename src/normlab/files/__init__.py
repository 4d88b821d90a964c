"""Readers of the user's own files: bytes, tables, images, and folders of them. Imports no torch."""
