"""The pictures of a run, and the pages of all commands."""
