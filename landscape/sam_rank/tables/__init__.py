"""The tables of the paper by name."""

from common.tables import named
from landscape.sam_rank.tables import (
    ablations,
    contrastive,
    decomposition,
    golden,
    images,
    two_layer,
    units,
)

TABLES = named(
    {
        "two_layer": two_layer,
        "golden": golden,
        "decomposition": decomposition,
        "contrastive": contrastive,
        "images": images,
        "units": units,
        "ablations": ablations,
    }
)
