"""What a finished run shows: metrics, pictures and the report."""
