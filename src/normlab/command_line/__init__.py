"""What the user types and gets as an answer: arguments, errors in plain words, exit statuses. Imports no torch."""
