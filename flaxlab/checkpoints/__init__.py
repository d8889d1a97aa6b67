"""Writes, verifies, finds and reads checkpoints; no other room imports Orbax."""
