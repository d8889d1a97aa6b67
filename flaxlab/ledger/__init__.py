"""Keeps the small files of finished runs, so that a repository can hold them."""
