"""100 steps slow enough to be killed in their midst, with noise from the key of each step.

    lab train --config=tests/tiny/slow.py:cpu --workdir=runs

Presets: cpu (seconds). Every host batch waits config.milliseconds.
"""

from ml_collections import ConfigDict

from common.config import choices

CHOICES = {"preset": ("cpu",)}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; `arg` is "cpu"."""
    choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "slow_experiment.py:slow"
    config.toy = "regression"  # or "weights": an NFN with dropout on random weights
    config.num_steps, config.batch_size = 100, 16
    config.eval_every, config.checkpoint_every, config.log_every = 50, 20, 1
    config.best_metric = "-error"
    config.milliseconds = 15
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-2))
    return config
