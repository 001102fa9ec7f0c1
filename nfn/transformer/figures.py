"""Figures of the paper's tables that need no run; those of an experiment are in its folder."""
