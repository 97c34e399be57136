"""Training of the multimodal model: data from synthetic patients, tasks, recipes."""
