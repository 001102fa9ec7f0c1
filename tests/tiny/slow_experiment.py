"""`weights` of tests/common/toys.py with batches that take their time."""

import time

from ml_collections import ConfigDict

from common.experiment import Batch, Experiment
from tests.common import toys


def slow_weights(config: ConfigDict) -> Experiment:
    """Returns the toy, each batch delayed by config.milliseconds."""
    experiment = toys.weights(config)

    def batch(step: int) -> Batch:
        time.sleep(config.milliseconds / 1000)
        return experiment.batch(step)

    return experiment._replace(batch=batch)
