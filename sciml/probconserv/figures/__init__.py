"""Figures of the tables, one module each, and the runs and colors that they share."""
