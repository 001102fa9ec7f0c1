"""Small against large batches, with and without weight decay (Li et al. 2018, Sec. 3 and 4).

    lab train --config=landscape/visualizing/configs/batch_size.py:cpu,decay=no
    lab table landscape.visualizing batch_size --preset=cpu
    lab compile --config=landscape/visualizing/configs/batch_size.py:pod --topology=v5e:16x16

A run trains both networks. Presets: cpu (2 cores, fully connected networks; measured time and
result in results/batch_size.cpu.md), paper (one GPU, VGG-9 or ResNet-56 on CIFAR-10; not run), pod
(TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py).
"""

from ml_collections import ConfigDict

from common.config import choices
from landscape.visualizing import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "decay": ("yes", "no"),
    "network": ("vgg9", "resnet56", "mlp"),
    "optimizer": ("sgd", "adam"),
}
ALLOWED = sections.ALLOWED
LARGE = {"vgg9": 8_192, "resnet56": 4_096, "mlp": 512}  # Sec. 3: 16.4 % of the training set; App.


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES, network="")
    preset = chosen["preset"]
    network = chosen["network"] or ("mlp" if preset == "cpu" else "vgg9")
    config = sections.base("batch_size")
    config.batch_size, config.small_batch = LARGE[network], 128  # Sec. 3
    config.num_steps = 300 * 50_000 // LARGE[network]  # epochs
    config.eval_every = config.num_steps // 3
    config.checkpoint_every, config.keep = config.num_steps // 100, 128  # table paths reads them
    config.model = _model(network)
    if chosen["optimizer"] == "adam":
        config.optimizer.update(name="adam", learning_rate=1e-3, momentum=0.0, nesterov=False)
    if chosen["decay"] == "no":
        config.optimizer.weight_decay = 0.0
    if preset == "cpu":
        _cpu(config)
    elif preset == "pod":  # an image of every small batch on each chip
        sections.set_pod(config)
        config.steps_per_call = 1
        config.small_batch = 256
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    sections.check_sections(config)
    if config.small_batch < 1 or config.batch_size % config.small_batch:
        raise ValueError(
            f"config.small_batch={config.small_batch}: expected a divisor of "
            f"config.batch_size={config.batch_size}"
        )


def _model(network: str) -> ConfigDict:
    kind = "resnet" if network == "resnet56" else network
    depth = {"vgg9": 9, "resnet56": 56, "mlp": 10}[network]
    width = {"vgg9": 64, "resnet56": 16, "mlp": 32}[network]
    return ConfigDict(dict(kind=kind, depth=depth, width=width, shortcuts=kind != "vgg9"))


def _cpu(config: ConfigDict) -> None:
    """The same claim on 2 cores: 10 layers, 120 epochs of 1,000 images, more weight decay."""
    sections.set_cpu(config)
    config.small_batch = config.batch_size // 32
    config.num_steps, config.eval_every, config.steps_per_call = 234, 78, 6
    config.checkpoint_every = 6  # three epochs
    if config.optimizer.name == "sgd":
        config.optimizer.learning_rate = 0.02  # ours
    if config.optimizer.weight_decay:
        config.optimizer.weight_decay = (
            5e-3  # ten times the paper's: there are 16 times fewer updates
        )
