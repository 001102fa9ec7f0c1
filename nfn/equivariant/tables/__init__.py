"""The tables of the paper by name."""

from common.tables import named
from nfn.equivariant.tables import (
    classification,
    counts,
    editing,
    generalization,
    mlp_generalization,
    tickets,
)

TABLES = named(
    {
        "1": counts.TABLE,
        "2": generalization.TABLE,
        "3": classification.TABLE,
        "5": tickets.TABLE,
        "6": editing.TABLE,
        "19": mlp_generalization.TABLE,
    }
)
