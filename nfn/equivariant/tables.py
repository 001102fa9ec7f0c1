"""The tables of the paper by name."""

from nfn.equivariant.classification.table import TABLE_3
from nfn.equivariant.counts import TABLE_1

TABLES = {"1": TABLE_1, "3": TABLE_3}
