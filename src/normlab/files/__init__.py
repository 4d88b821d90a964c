"""The user's own files, read as what they are: bytes, tables, pictures, and folders of them. Imports no torch."""
