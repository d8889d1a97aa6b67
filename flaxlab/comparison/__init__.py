"""What several runs say together: seeds paired, differences with intervals, claims tested."""
