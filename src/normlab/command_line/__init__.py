"""The command line: arguments, error messages in plain words, exit statuses. Imports no torch."""
