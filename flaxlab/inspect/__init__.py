"""Looks into a checkpoint of any project that uses Orbax."""
