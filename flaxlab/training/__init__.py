"""How a model is trained: pure state and steps, the loop around them, and its checkpoints."""
