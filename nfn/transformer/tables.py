"""The tables of the paper by name."""

from nfn.transformer.classification.table import CLASSIFICATION
from nfn.transformer.editing.table import TABLE_EDITING
from nfn.transformer.generalization.table import TABLE_GENERALIZATION

TABLES = {
    "classification": CLASSIFICATION,
    "editing": TABLE_EDITING,
    "generalization": TABLE_GENERALIZATION,
}
