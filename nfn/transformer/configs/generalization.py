"""Predict the test accuracy of CNNs from their weights with NFT (Zhou et al. 2023).

    lab train --config=nfn/transformer/configs/generalization.py:cpu --workdir=runs
    lab table nfn.transformer generalization --preset=cpu --workdir=runs
    lab compile --config=nfn/transformer/configs/generalization.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/tablegeneralization.cpu.md), paper (one
GPU; not run), pod (TPU v5e 16x16; compiled ahead of time only, tests/nfn/test_pods.py). The text of
the paper could not be read: data and training are those of the authors' paper before it
(nfn.equivariant, here "NFN"). The networks are trained here, unless `config.data.files` names a
folder of the published Small CNN Zoo.
"""

from ml_collections import ConfigDict

from common.config import at_least_one, choices, one_of
from nfn.tasks import sections

CHOICES = {"preset": ("cpu", "paper", "pod"), "dataset": ("fashion_mnist", "cifar10")}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "nfn.transformer:generalization"
    config.num_steps = 75_000  # NFN, Table 12: 50 epochs
    config.batch_size = 8  # NFN, Table 12
    config.eval_every = config.checkpoint_every = 1_500  # released code of NFN: every epoch
    config.best_metric = "valid_tau"  # NFN, App. D.1: early stopping on validation tau
    config.evaluate_chunk = 500
    config.data = sections.cnn_zoo(args["dataset"])
    config.model = ConfigDict(
        dict(
            channels=16,  # could not be read: as wide and as deep as NFN
            num_blocks=3,
            num_heads=4,  # released code, INR2ARRAY
            ff_ratio=4,  # released code, INR2ARRAY
            frequencies=0,  # as NFN here; filters have their 9 entries as channels
            fourier_scale=3.0,
            dropout=0.0,
            share_projections=False,  # per tensor, as in the authors' package for convolutions
            share_ff=False,
            use_neurons=True,
            use_tensors=True,
            dtype="float32",
            remat=False,
        )
    )
    config.head = ConfigDict(
        dict(
            head_widths=(1_000, 1_000),  # NFN, Table 12
            head_dropout=0.0,
        )
    )
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-3))  # NFN, Table 12
    if args["preset"] == "cpu":
        _cpu(config)
    elif args["preset"] == "pod":  # v5e 16x16: 8 networks a chip, as one GPU of the paper
        config.batch_size = config.evaluate_chunk = 8 * 256
        config.num_steps, config.steps_per_call = 3_000, 50
        config.eval_every = config.checkpoint_every = 150
        config.mesh = ConfigDict(dict(data=-1))
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    one_of("config.data.name", config.data.name, CHOICES["dataset"])
    one_of("config.model.dtype", config.model.dtype, ("float32", "bfloat16"))
    at_least_one(config.model, "config.model", "channels", "num_blocks", "num_heads", "ff_ratio")
    at_least_one(config.data, "config.data", "train_runs", "valid_runs", "test_runs", "snapshots")
    used = sum(config.data[f"{part}_runs"] for part in ("train", "valid", "test"))
    if not config.data.files and used > config.data.runs:
        raise ValueError(
            f"config.data.runs={config.data.runs}: train_runs + valid_runs + test_runs = {used}"
        )
    if config.data.files and config.data.snapshots > 1:
        raise ValueError("config.data.snapshots: the published zoo is read at its last step, use 1")


def _cpu(config: ConfigDict) -> None:
    """The same claims on 2 cores, with the zoo of NFN's preset cpu."""
    sections.make_cnn_zoo_small(config.data)
    config.num_steps, config.batch_size, config.steps_per_call = 1_000, 32, 50
    config.eval_every = config.checkpoint_every = 100
    config.model.channels, config.model.num_blocks = 8, 2
    config.model.num_heads, config.model.ff_ratio = 2, 2
    config.optimizer = ConfigDict(
        dict(name="adam", learning_rate=3e-3, schedule="cosine", warmup_steps=50)
    )
