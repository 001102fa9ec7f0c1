"""The tables of the paper by name."""

from nfn.equivariant.classification.table import TABLE_3

TABLES = {"3": TABLE_3}
