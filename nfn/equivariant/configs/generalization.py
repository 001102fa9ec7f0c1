"""Predict the test accuracy of CNNs from their weights (Zhou et al. 2023, Table 2).

    lab train --config=nfn/equivariant/configs/generalization.py:cpu,kind=hnp --workdir=runs
    lab table nfn.equivariant 2 --preset=cpu --workdir=runs
    lab compile --config=nfn/equivariant/configs/generalization.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/table2.cpu.md), paper (one GPU; not run),
pod (TPU v5e 16x16; compiled ahead of time only, tests/nfn/test_pods.py). The networks are
trained here, unless `config.data.files` names a folder of the published Small CNN Zoo.
"""

from ml_collections import ConfigDict

from common.config import at_least_one, choices, one_of
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "dataset": ("fashion_mnist", "cifar10"),
    "kind": ("np", "hnp", "statnn"),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "nfn.equivariant:generalization"
    config.num_steps = 75_000  # Table 12: 50 epochs
    config.batch_size = 8  # Table 12
    config.eval_every = config.checkpoint_every = 1_500  # released code: every epoch
    config.best_metric = "valid_tau"  # App. D.1: early stopping on validation tau
    config.evaluate_chunk = 500
    config.data = sections.cnn_zoo(args["dataset"])
    config.data.normalize = args["kind"] != "hnp"  # released code; its StatNet has no such option
    config.model = ConfigDict(
        dict(
            kind=args["kind"],
            widths=(16, 16, 5),  # Table 12
            head_widths=(1_000, 1_000),  # Table 12
            head_dropout=0.0,
            dtype="float32",
        )
    )
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-3))  # Table 12
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
    one_of("config.model.kind", config.model.kind, CHOICES["kind"])
    one_of("config.model.dtype", config.model.dtype, ("float32", "bfloat16"))
    at_least_one(config.data, "config.data", "train_runs", "valid_runs", "test_runs", "snapshots")
    used = sum(config.data[f"{part}_runs"] for part in ("train", "valid", "test"))
    if not config.data.files and used > config.data.runs:
        raise ValueError(
            f"config.data.runs={config.data.runs}: train_runs + valid_runs + test_runs = {used}"
        )
    if config.data.files and config.data.snapshots > 1:
        raise ValueError("config.data.snapshots: the published zoo is read at its last step, use 1")


def _cpu(config: ConfigDict) -> None:
    """The same claim on 2 cores: a zoo a tenth as large, of networks with half the channels."""
    sections.make_cnn_zoo_small(config.data)
    config.num_steps, config.batch_size, config.steps_per_call = 1_000, 32, 50
    config.eval_every = config.checkpoint_every = 100
    config.optimizer = ConfigDict(
        dict(name="adam", learning_rate=1e-3, schedule="cosine", warmup_steps=50)
    )
