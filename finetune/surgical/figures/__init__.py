"""The figures of the paper, one for every table."""
