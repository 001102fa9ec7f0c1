"""The experiments of the paper by name."""

from ml_collections import ConfigDict

from common.experiment import Experiment
from nfn.equivariant.classification.experiment import inr_classification
from nfn.equivariant.editors import EditorSpec, editor
from nfn.equivariant.predictors import PredictorSpec, predictor
from nfn.equivariant.tickets.experiment import tickets
from nfn.tasks import sirens
from nfn.tasks.accuracy import predict_accuracy
from nfn.tasks.editing import edit_sirens
from nfn.tasks.zoos import zoo_space


def editing(config: ConfigDict) -> Experiment:
    """Changes the weights of SIRENs so that they show the edited image (Table 6)."""
    spec, sizes = sirens.siren_set_spec(config.data), EditorSpec(**config.model.to_dict())
    return edit_sirens(config, editor(sirens.siren_space(spec), sizes, omega=spec.omega))


def generalization(config: ConfigDict) -> Experiment:
    """Predicts the test accuracy of networks from their weights (Tables 2 and 19)."""
    spec = PredictorSpec(**config.model.to_dict())
    return predict_accuracy(config, predictor(zoo_space(config.data), spec))


EXPERIMENTS = {
    "inr_classification": inr_classification,
    "editing": editing,
    "tickets": tickets,
    "generalization": generalization,
    "mlp_generalization": generalization,
}
