"""One experiment a file: each is a difference to its baseline."""
