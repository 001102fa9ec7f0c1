"""Predicting generalization with the networks of this paper."""

from ml_collections import ConfigDict

from common.experiment import Experiment
from nfn.equivariant.generalization.model import PredictorSpec, predictor
from nfn.tasks.accuracy import predict_accuracy
from nfn.tasks.zoos import zoo_space


def generalization(config: ConfigDict) -> Experiment:
    """Predicts the test accuracy of networks from their weights (Tables 2 and 19)."""
    spec = PredictorSpec(**config.model.to_dict())
    return predict_accuracy(config, predictor(zoo_space(config.data), spec))
