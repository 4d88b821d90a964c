"""What is wrong in a training, as functions of the plain numbers that the monitor has seen. Imports no torch."""
