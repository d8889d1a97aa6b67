"""Writes a stored model for use without flaxlab."""
