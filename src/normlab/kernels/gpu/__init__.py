"""The recurrence on a GPU: one matrix product and one Triton kernel per step. Imported only on a GPU."""
