"""Real images, downloads and a cache of generated sets; nothing here needs JAX."""
