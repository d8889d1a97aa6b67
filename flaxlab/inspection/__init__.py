"""What is in a checkpoint, what its values are like, and what differs between two."""
