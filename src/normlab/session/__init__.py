"""Sets up and drives a run: device, data, model, batches, task, trainer, callbacks, resuming, loggers."""
