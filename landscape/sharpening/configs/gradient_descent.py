"""Full-batch gradient descent with the sharpness watched (MacDonald et al. 2023, Fig. 1).

    lab train --config=landscape/sharpening/configs/gradient_descent.py:cpu
    lab train --config=landscape/sharpening/configs/gradient_descent.py:cpu --config.smoothing=0.5
    lab table landscape.sharpening edge --preset=cpu
    lab compile --config=landscape/sharpening/configs/gradient_descent.py:pod --topology=v5e:16x16

A step of the loop makes `tracking.every` updates. Presets: cpu (2 cores; measured time and result
in results/edge.cpu.md), paper (one GPU, the protocol of Cohen et al. (2021) on 5,000 images of
CIFAR-10; not run), pod (TPU v5e 16x16, all of CIFAR-10 in every step; compiled ahead of time only,
tests/test_pods.py).
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from landscape.sharpening import sections

CHOICES = {"preset": ("cpu", "paper", "pod"), "network": sections.NETWORKS}
ALLOWED = sections.ALLOWED


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    config = sections.base("gradient_descent", chosen["network"])
    config.num_steps, config.eval_every, config.steps_per_call = 1_000, 20, 10
    config.log_every = 1
    config.optimizer = sections.sgd(0.01)
    config.tracking = ConfigDict(
        dict(
            every=10,  # updates between two measurements of the sharpness
            products=4,  # with the Hessian, at every one, at most
            tolerance=0.03,  # residual, relative to the sharpness, that is small enough
            times_limit=0.0,  # a start above so many times the limit is refused; 0: none is
        )
    )
    # Ours: what is added to the loss that is followed, not to the one that is watched.
    config.penalty = ConfigDict(dict(jacobian=0.0, sharpness=0.0))
    if chosen["preset"] == "cpu":
        sections.set_cpu(config)
        config.optimizer.learning_rate = 0.1
        config.num_steps, config.eval_every, config.steps_per_call = 160, 4, 4
        if chosen["network"] != "mlp":
            config.num_steps = 40
    elif chosen["preset"] == "pod":
        config.data.num_train = 49_920  # 195 of them on each of 256 chips
        config.watch.samples, config.watch.chunk = 1_024, 256
        config.evaluate_chunk = 2_560
        config.mesh = ConfigDict(dict(data=-1))
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    sections.check_sections(config)
    tracking, penalty = config.tracking, config.penalty
    require_at_least_one(tracking, "config.tracking", "every", "products")
    for name in ("jacobian", "sharpness"):
        if not penalty[name] >= 0:
            raise ValueError(f"config.penalty.{name}={penalty[name]}: expected at least 0")
    for name in ("tolerance", "times_limit"):
        if not tracking[name] >= 0:
            raise ValueError(f"config.tracking.{name}={tracking[name]}: expected at least 0")
