"""Suites: which experiments are compared with which, and what the lab report says of each."""
