"""Compares finished runs, paired by seed."""
