"""Keeps finished runs without what is large, so that a repository can hold them."""
