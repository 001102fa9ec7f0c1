"""The smallest experiment for tests of the loop and the command line: fit a line in seconds.

    lab train --config=tests/tiny/config.py:cpu --workdir=runs

Presets: cpu (40 steps, below a second once compiled).
"""

from ml_collections import ConfigDict

from common.config import choices

CHOICES = {"preset": ("cpu",)}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; `arg` is "cpu"."""
    choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "experiment.py:line"
    config.num_steps = 40
    config.batch_size = 8
    config.eval_every = 10
    config.checkpoint_every = 10
    config.log_every = 1
    config.best_metric = "-valid_error"
    config.optimizer = ConfigDict(dict(learning_rate=0.1))
    return config


def check(config: ConfigDict) -> None:
    """Checks the learning rate.

    Raises:
        ValueError: If it is negative.
    """
    rate = config.optimizer.learning_rate
    if rate < 0:
        raise ValueError(f"config.optimizer.learning_rate={rate}: expected at least 0")
