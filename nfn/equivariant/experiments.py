"""The experiments of the paper by name."""

from nfn.equivariant.classification.experiment import inr_classification
from nfn.equivariant.editing.experiment import editing

EXPERIMENTS = {"inr_classification": inr_classification, "editing": editing}
