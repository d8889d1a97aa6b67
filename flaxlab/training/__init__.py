"""How a model is trained: a pure state and step, and the loop around them."""
