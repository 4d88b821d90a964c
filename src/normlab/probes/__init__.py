"""Lightning callbacks that look inside a network."""
