"""What the command `flaxlab.explain` finds out about one training step, and how it prints it."""
