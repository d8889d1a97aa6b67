"""One run in several processes: how they find each other, decide together, and end together."""
