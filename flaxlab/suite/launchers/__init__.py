"""Ways to start tasks: processes of this machine, or jobs of Slurm."""
