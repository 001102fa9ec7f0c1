"""Layers that several papers use, as pairs of pure functions: `init_<layer>` and `<layer>`."""
