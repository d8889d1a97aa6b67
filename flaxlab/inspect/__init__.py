"""Shows the contents of a checkpoint of any project that uses Orbax."""
