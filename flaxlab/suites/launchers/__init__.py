"""Who does the tasks of a suite. Only these modules import submitit."""
