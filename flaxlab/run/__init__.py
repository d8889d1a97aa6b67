"""A run directory and its process: everything around the training loop."""
