"""Suites: several experiments, the arms, each with the same seeds."""
