"""The experiments of the paper by name."""

from ml_collections import ConfigDict

from common.experiment import Experiment
from nfn.tasks import sirens
from nfn.tasks.accuracy import predict_accuracy, trunk_predictor
from nfn.tasks.editing import edit_sirens, residual_editor
from nfn.tasks.zoos import zoo_space
from nfn.transformer.classification.experiment import inr_classification
from nfn.transformer.inr2array.experiment import inr2array
from nfn.transformer_stack import TransformerSpec, attention_trunk


def editing(config: ConfigDict) -> Experiment:
    """Changes the weights of SIRENs by U + gamma NFT(U) so that they show the edited image."""
    spec = sirens.siren_set_spec(config.data)
    sizes = TransformerSpec(**config.model.to_dict(), linear_output=1)
    body = attention_trunk(sirens.siren_space(spec), sizes)
    return edit_sirens(config, residual_editor(body, omega=spec.omega, **config.editor.to_dict()))


def generalization(config: ConfigDict) -> Experiment:
    """Predicts the test accuracy of networks from their weights: NFT, invariant pool, MLP."""
    trunk = attention_trunk(zoo_space(config.data), TransformerSpec(**config.model.to_dict()))
    return predict_accuracy(config, trunk_predictor(trunk, **config.head.to_dict()))


EXPERIMENTS = {
    "editing": editing,
    "generalization": generalization,
    "inr2array": inr2array,
    "inr_classification": inr_classification,
}
