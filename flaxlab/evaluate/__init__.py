"""Scores the model that a run has stored."""
