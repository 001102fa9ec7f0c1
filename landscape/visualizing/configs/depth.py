"""Networks with and without shortcuts, from shallow to deep and wide (Li et al. 2018, Sec. 5).

    lab train --config=landscape/visualizing/configs/depth.py:cpu,depth=56,shortcuts=no
    lab table landscape.visualizing depth --preset=cpu
    lab compile --config=landscape/visualizing/configs/depth.py:pod,depth=110 --topology=v5e:16x16

Presets: cpu (2 cores, fully connected networks; measured time and result in results/depth.cpu.md),
paper (one GPU, ResNets on CIFAR-10; not run), pod (TPU v5e 16x16; compiled ahead of time only,
tests/test_pods.py). `widen=2` has layers twice as wide: Wide-ResNet-56-2; `network=densenet121` has
the one depth it has, and at preset cpu fewer channels.
"""

from ml_collections import ConfigDict

from common.config import choices
from landscape.visualizing import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "depth": ("20", "56", "110"),
    "shortcuts": ("yes", "no"),
    "widen": 1,
    "network": ("resnet", "densenet121"),
}
ALLOWED = sections.ALLOWED


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    config = sections.base("depth")
    config.batch_size = 128  # Sec. 5
    config.num_steps = 117_200  # 300 epochs of 50,000 images, up to a multiple of 400
    config.eval_every, config.steps_per_call = 11_720, 10
    config.model = ConfigDict(
        dict(
            kind="resnet",
            depth=int(chosen["depth"]),
            width=16 * chosen["widen"],
            shortcuts=chosen["shortcuts"] == "yes",
        )
    )
    is_dense = chosen["network"] == "densenet121"
    if is_dense:
        config.model.update(kind="densenet", depth=121, width=32 * chosen["widen"])
    if chosen["preset"] == "cpu":
        sections.set_cpu(config)
        if is_dense:
            config.model.width = 4 * chosen["widen"]
        else:
            config.model.kind, config.model.width = "mlp", 32 * chosen["widen"]
        config.num_steps, config.eval_every, config.steps_per_call = 2_000, 1_000, 100
        config.optimizer.decay_at = (0.5, 0.75)
    elif chosen["preset"] == "pod":  # four images a chip
        sections.set_pod(config)
        config.batch_size, config.num_steps, config.eval_every = 1_024, 14_650, 1_465
        config.steps_per_call = 5
        config.optimizer.learning_rate, config.optimizer.warmup_steps = 0.8, 245  # 5 epochs
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    sections.check_sections(config)
