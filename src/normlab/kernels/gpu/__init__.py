"""The recurrence on a GPU: one matrix product and one Triton kernel a step. Imported only where a GPU asks for it."""
