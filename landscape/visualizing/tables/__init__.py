"""The tables of the paper by name; its figures are tables of numbers here."""

from common.tables import named
from landscape.visualizing.tables import batch_size, convexity, depth, paths, published

TABLES = named(
    {
        "depth": depth,
        "batch_size": batch_size,
        "convexity": convexity,
        "paths": paths,
        "published": published,
    }
)
