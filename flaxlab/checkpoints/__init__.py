"""Checkpoints: writing, reading and verifying them. Orbax is imported here and nowhere else."""
