"""The tables of the paper by name."""

from nfn.equivariant.classification.table import TABLE_3
from nfn.equivariant.counts.table import TABLE_1
from nfn.equivariant.editing.table import TABLE_6
from nfn.equivariant.generalization.table import TABLE_2, TABLE_19
from nfn.equivariant.tickets.table import TABLE_5

TABLES = {
    "1": TABLE_1,
    "2": TABLE_2,
    "3": TABLE_3,
    "5": TABLE_5,
    "6": TABLE_6,
    "19": TABLE_19,
}
