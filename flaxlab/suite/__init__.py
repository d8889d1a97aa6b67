"""Runs arms with several seeds, in this process or as tasks."""
