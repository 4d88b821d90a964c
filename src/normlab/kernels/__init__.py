"""Fused recurrences: the time loop of a normed LSTM, forward and backward, in C++ on CPUs and in Triton on GPUs."""
