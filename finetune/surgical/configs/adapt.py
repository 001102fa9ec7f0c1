"""Which block of a network to tune for a shift: all ways at once (Lee et al. 2023).

    lab train --config=finetune/surgical/configs/adapt.py:cpu --config.shift.name=flip
    lab train --config=finetune/surgical/configs/adapt.py:cpu,task=background
    lab table finetune.surgical shifts
    lab compile --config=finetune/surgical/configs/adapt.py:pod,network=resnet50
        --topology=v5e:16x16

A step is an epoch of every way to tune at every learning rate. `config.source` is a whole config of
source.py: networks of seeds 0 to `num_sources` - 1 are trained first, once. Presets: cpu (2 cores,
the embedded Fashion-MNIST; measured time and result in results/shifts.cpu.md), paper (one GPU,
CIFAR-10, 1,000 target images; not run), pod (TPU v5e 16x16, block 1 and all in batches of 1,024;
compiled ahead of time only, tests/test_pods.py).
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from common.data import data_sections
from finetune.surgical.configs import source

CHOICES = {
    **source.CHOICES,
    "ways": ("blocks", "methods"),
    "data": ("trained", "published"),
}
ALLOWED = {f"source.{name}": values for name, values in source.ALLOWED.items()}
BLOCKS = ("block1", "block2", "block3", "last", "all")
METHODS = (
    "all",
    "last",
    "rgn_tensor",
    "rgn_block",
    "rgn_matrix",
    "snr",
    "gradual_first",
    "gradual_last",
    "lp_ft",
    "ft_lp",
    "l1_sp",
    "l2_sp",
)
IMAGENET = dict(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))  # of published ones


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    preset = chosen["preset"]
    config = ConfigDict()
    config.experiment = "finetune.surgical:adapt"
    config.num_steps = 15  # epochs; README of the released code
    config.batch_size = 64  # released code
    config.evaluate_chunk = 500
    config.num_sources = 1
    config.apart = False  # True: candidates at once, over devices, not one after the other
    of_source = [preset, *(f"{name}={chosen[name]}" for name in ("network", "task"))]
    config.source = source.get_config(",".join(of_source))
    config.shift = ConfigDict(
        dict(
            name=chosen["task"] if chosen["task"] != "classes" else "contrast",
            severity=5,  # released code
            sigma=0.5,  # of noise in a block, in sizes of its tensors
        )
    )
    config.adapt = ConfigDict(
        dict(
            choices=BLOCKS if chosen["ways"] == "blocks" else METHODS,
            learning_rates=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),  # released code
            last_factor=1.0,
            target_size=1_000,  # released code
            num_valid=100,  # released code
            updates=16,  # of an epoch: 1,000 images in batches of 64
        )
    )
    if preset == "cpu":
        config.num_steps, config.batch_size, config.num_sources = 8, 32, 5
        config.seed_group = 5
        config.adapt.update(
            learning_rates=(1e-2, 2e-3), last_factor=10.0, target_size=100, updates=6
        )
    elif preset == "pod":
        config.batch_size, config.evaluate_chunk = 1_024, 1_024
        config.mesh = ConfigDict(dict(data=-1))
        config.adapt.update(choices=("block1", "all"), learning_rates=(1e-3,), updates=4)
    if chosen["data"] == "published":
        _set_published(config, preset)
    config.pixels = ConfigDict(config.source.pixels.to_dict())
    return config


def _set_published(config: ConfigDict, preset: str) -> None:
    """Takes the published ResNet-20, and images of CIFAR-10 without loss."""
    config.source.file = "cifar10_resnets/resnet20.npz"
    config.source.pixels = ConfigDict(IMAGENET)
    config.source.data.update(data_sections.cifar10(num_train=4_000, num_test=1_000))
    config.source.data.images = "cifar10_lossless"
    # The network has seen all training images: as in the released code, test images are split.
    config.source.data.num_source, config.source.data.num_pool = 0, 400
    config.evaluate_chunk, config.num_sources = 300, 1
    if preset == "cpu":
        config.num_steps, config.batch_size = 4, 20
        config.adapt.update(learning_rates=(1e-3, 3e-4), last_factor=100.0, updates=6)


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    source.check(config.source)
    require_at_least_one(config, "config", "evaluate_chunk", "num_sources")
    adapt = config.adapt
    if adapt.target_size < 1:
        raise ValueError(
            f"config.adapt.target_size={adapt.target_size}: the target set is empty; expected at "
            "least one image of every class"
        )
    require_at_least_one(adapt, "config.adapt", "num_valid", "updates")
    if config.shift.sigma <= 0:
        raise ValueError(f"config.shift.sigma={config.shift.sigma}: expected more than 0")
