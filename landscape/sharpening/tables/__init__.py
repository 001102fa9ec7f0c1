"""The tables of the paper by name."""

from common.tables import named
from landscape.sharpening.tables import (
    bounds,
    convolutional,
    edge,
    flow,
    intervention,
    regularization,
    smoothing,
    width,
)

TABLES = named(
    {
        "edge": edge,
        "convolutional": convolutional,
        "flow": flow,
        "smoothing": smoothing,
        "regularization": regularization,
        "width": width,
        "intervention": intervention,
        "bounds": bounds,
    }
)
