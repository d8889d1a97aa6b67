"""Classifies pictures with a stored model."""
