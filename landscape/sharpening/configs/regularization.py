"""Networks in small batches that one regularizer tells apart (MacDonald et al. 2023, Fig. 2-5).

    lab train --config=landscape/sharpening/configs/regularization.py:cpu --config.smoothing=0.3
    lab table landscape.sharpening regularization --preset=cpu
    lab compile --config=landscape/sharpening/configs/regularization.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/regularization.cpu.md), paper (one GPU,
CIFAR-10, such as network=resnet18; not run), pod (TPU v5e 16x16; compiled ahead of time only,
tests/test_pods.py). Which numbers the paper has for them could not be read: all are ours.
"""

from ml_collections import ConfigDict

from common.config import choices
from landscape.sharpening import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "network": sections.NETWORKS,
}
ALLOWED = sections.ALLOWED


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    network = chosen["network"]
    is_cpu = chosen["preset"] == "cpu"
    config = sections.base("regularization", network)
    config.cost = "cross_entropy"
    config.data.num_train = 50_000
    config.batch_size, config.num_steps, config.eval_every = 128, 39_000, 3_900
    config.steps_per_call = 10
    config.family = ""  # of a cell of the table: whose members it trains; no part of a run
    config.mixup = 0.0  # of Beta(mixup, mixup) are the shares of two images; 0: none are mixed
    config.augment = False  # images move by up to 4 pixels, and are mirrored
    config.optimizer = sections.sgd(0.1)
    config.model.activation = "relu"
    if is_cpu:
        sections.set_cpu(config)
        config.data.num_train = 1_000
        if network == "mlp":
            config.model.width = 128
        config.batch_size, config.num_steps, config.eval_every = 32, 3_000, 3_000
        config.steps_per_call = 1_000
        config.watch.samples, config.watch.chunk = 500, 250
        config.watch.products = 30
    elif chosen["preset"] == "pod":  # four images a chip
        config.batch_size, config.num_steps, config.eval_every = 1_024, 4_880, 488
        config.steps_per_call = 8
        config.optimizer.learning_rate, config.optimizer.warmup_steps = 0.8, 245
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
    if not config.mixup >= 0:
        raise ValueError(f"config.mixup={config.mixup}: expected at least 0")
    if config.augment and config.data.size < 8:
        raise ValueError(
            f"config.augment=True: images of config.data.size={config.data.size} pixels would "
            "leave the picture; expected at least 8"
        )
