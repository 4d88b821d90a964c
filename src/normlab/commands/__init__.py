"""What the commands of `normlab` do."""
