"""Shows what one training step is made of."""
