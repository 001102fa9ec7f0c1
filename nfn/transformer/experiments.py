"""The experiments of the paper by name."""

from nfn.transformer.classification.experiment import inr_classification
from nfn.transformer.editing.experiment import editing
from nfn.transformer.generalization.experiment import generalization
from nfn.transformer.inr2array.experiment import inr2array

EXPERIMENTS = {
    "editing": editing,
    "generalization": generalization,
    "inr2array": inr2array,
    "inr_classification": inr_classification,
}
