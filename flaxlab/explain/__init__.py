"""Shows what one training step consists of, changes and costs."""
