"""Starts tasks through submitit: as processes of this machine, or as jobs of Slurm."""
