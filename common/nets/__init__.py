"""Layers and networks that several papers use: pairs of pure functions, and modules of Flax."""
