"""What `flaxlab.fit` and its like do and return: runs and suites that notebooks show."""
