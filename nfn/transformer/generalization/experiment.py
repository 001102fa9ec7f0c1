"""Predicting generalization with a transformer on weights."""

from ml_collections import ConfigDict

from common.experiment import Experiment
from nfn.tasks.accuracy import predict_accuracy, trunk_predictor
from nfn.tasks.zoos import zoo_space
from nfn.transformer_stack import TransformerSpec, attention_trunk


def generalization(config: ConfigDict) -> Experiment:
    """Predicts the test accuracy of networks from their weights: NFT, invariant pool, MLP."""
    trunk = attention_trunk(zoo_space(config.data), TransformerSpec(**config.model.to_dict()))
    return predict_accuracy(config, trunk_predictor(trunk, **config.head.to_dict()))
