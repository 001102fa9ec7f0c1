"""Child processes: lists of runs, sweeps, Slurm."""
