"""A run set up and driven: device, batches, task, trainer, callbacks, resuming."""
