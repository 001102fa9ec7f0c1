"""Predict the test accuracy of CNNs from their weights with NFT (Zhou et al. 2023).

    lab train --config=nfn/transformer/configs/generalization.py:cpu --workdir=runs
    lab table nfn.transformer generalization --preset=cpu --workdir=runs
    lab compile --config=nfn/transformer/configs/generalization.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/generalization.cpu.md), paper (one
GPU; not run), pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The text of
the paper could not be read: data and training are those of the authors' paper before it
(nfn.equivariant, here "NFN"). The networks are trained here, unless `config.data.files` names a
folder of the published Small CNN Zoo.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from nfn.tasks import sections

CHOICES = {"preset": ("cpu", "paper", "pod"), "dataset": ("fashion_mnist", "cifar10")}
ALLOWED = {"model.dtype": sections.FLOATS, "data.name": CHOICES["dataset"]}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES)
    config = sections.ranking(args["preset"], args["dataset"])  # as NFN is trained
    config.experiment = "nfn.transformer:generalization"
    config.model = sections.attention(
        channels=16,  # could not be read: as wide and as deep as NFN
        num_blocks=3,
        frequencies=0,  # as NFN here; filters have their 9 entries as channels
        share_projections=False,  # per tensor, as in the authors' package for convolutions
    )
    config.head = ConfigDict(
        dict(
            head_widths=(1_000, 1_000),  # NFN, Table 12
            head_dropout=0.0,
        )
    )
    if args["preset"] == "cpu":
        config.model.channels, config.model.num_blocks = 8, 2
        config.model.num_heads, config.model.ff_ratio = 2, 2
        config.optimizer.learning_rate = 3e-3
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    require_at_least_one(
        config.model, "config.model", "channels", "num_blocks", "num_heads", "ff_ratio"
    )
    sections.check_zoo(config.data)
