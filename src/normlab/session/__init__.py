"""A run set up and driven: device, data, model, batches, task, trainer, callbacks, resuming, loggers."""
