"""Which classes and code a file may name: a checkpoint or a stored config may come from somebody else."""
