"""The tables of the paper by name."""

from common.tables import named
from nfn.transformer.tables import classification, editing, generalization, size

TABLES = named(
    {
        "classification": classification,
        "editing": editing,
        "generalization": generalization,
        "size": size,
    }
)
