"""Classifies pictures with the model that a run has stored."""
