"""This process and its machine: cores, memory, and a name among all processes. Imports nothing of normlab."""
