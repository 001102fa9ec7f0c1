"""Regression on the unit cube, where all bounds can be computed (MacDonald et al. 2023, Thm 4-6).

    lab train --config=landscape/sharpening/configs/synthetic.py:cpu,dimension=2
    lab table landscape.sharpening bounds --preset=cpu

Presets: cpu (2 cores; measured time and result in results/bounds.cpu.md), paper (the same with more
samples; the paper computes no bound).
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one

CHOICES = {"preset": ("cpu", "paper"), "dimension": ("1", "2")}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "landscape.sharpening:synthetic"
    config.data = ConfigDict(
        dict(
            dimension=int(chosen["dimension"]),
            num_train=64,
            num_test=20_000,
        )
    )
    config.model = ConfigDict(dict(depth=3, width=32))
    config.bounds = ConfigDict(
        dict(
            failure=0.1,  # probability with which the samples do not cover the cube
            ball_points=64,  # around every sample, for the variation of the Jacobian
            grid=512,  # points along an axis for the true Lipschitz constant; 128 in two dimensions
        )
    )
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=3e-3))
    config.batch_size = config.data.num_train
    config.num_steps, config.steps_per_call, config.eval_every = 2_000, 500, 2_000
    if chosen["preset"] == "paper":
        config.data.num_train = config.batch_size = 1_024
        config.num_steps = config.eval_every = 20_000
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config.data, "config.data", "num_train", "num_test")
    require_at_least_one(config.model, "config.model", "depth", "width")
    require_at_least_one(config.bounds, "config.bounds", "ball_points", "grid")
    if config.data.dimension not in (1, 2):
        raise ValueError(f"config.data.dimension={config.data.dimension}: expected 1 or 2")
    if not 0 < config.bounds.failure < 1:
        raise ValueError(f"config.bounds.failure={config.bounds.failure}: expected 0 < failure < 1")
    if config.batch_size != config.data.num_train:
        raise ValueError(
            f"config.batch_size={config.batch_size}: expected config.data.num_train="
            f"{config.data.num_train}, all samples in every step"
        )
