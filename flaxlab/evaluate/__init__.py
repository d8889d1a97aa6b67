"""Scores a stored model."""
