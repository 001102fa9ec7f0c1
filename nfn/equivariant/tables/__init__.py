"""The tables of the paper by name."""

from common.tables import named
from nfn.equivariant.tables import (
    ablation,
    classification,
    counts,
    editing,
    generalization,
    mlp_generalization,
    size,
    tickets,
)

TABLES = named(
    {
        "1": counts,
        "2": generalization,
        "3": classification,
        "5": tickets,
        "6": editing,
        "19": mlp_generalization,
        "size": size,
        "ablation": ablation,
    }
)
