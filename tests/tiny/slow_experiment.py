"""A network of tests/common/toys.py with batches that take their time."""

import time

from ml_collections import ConfigDict

from common.experiment import Batch, Experiment
from tests.common import toys


def slow(config: ConfigDict) -> Experiment:
    """Returns the toy `config.toy`, each batch delayed by config.milliseconds."""
    experiment = {"regression": toys.regression, "weights": toys.weights}[config.toy](config)

    def batch(step: int) -> Batch:
        time.sleep(config.milliseconds / 1000)
        return experiment.batch(step)

    return experiment._replace(batch=batch)
