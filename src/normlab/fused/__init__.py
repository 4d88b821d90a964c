"""The compiled recurrence as cells use it: which norms it supports, and how they become its arguments."""
