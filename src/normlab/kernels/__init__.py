"""Fused recurrences: the whole time loop of a normed LSTM in compiled C++, forward and backward."""
