"""Figures of the tables, one module each, and the panels that more than one of them has."""
