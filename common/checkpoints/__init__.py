"""Saved states that are exactly what was written, or refused."""
