"""The experiments of the paper by name."""

from nfn.equivariant.classification.experiment import inr_classification
from nfn.equivariant.editing.experiment import editing
from nfn.equivariant.generalization.experiment import generalization
from nfn.equivariant.tickets.experiment import tickets

EXPERIMENTS = {
    "inr_classification": inr_classification,
    "editing": editing,
    "tickets": tickets,
    "generalization": generalization,
    "mlp_generalization": generalization,
}
