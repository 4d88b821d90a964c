"""The statements of the textbook, each with the findings that test it and its state. Imports no torch."""
