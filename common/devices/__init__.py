"""What a process needs of its machine: other processes, signals, accelerators, how JAX starts."""
