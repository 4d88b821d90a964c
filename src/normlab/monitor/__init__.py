"""What is wrong with the norms of a running training, and what to do about it."""
