"""Classify images by the weights of SIRENs fitted to them (Zhou et al. 2023, Table 3).

    lab train --config=nfn/equivariant/configs/inr_classification.py:cpu --workdir=runs
    lab table nfn.equivariant 3 --preset=cpu --workdir=runs
    lab compile --config=nfn/equivariant/configs/inr_classification.py:pod --topology=v5e:16x16

Presets: demo (a small cut of cpu for `make demo`), cpu (2 cores; measured time and result in
results/3.cpu.md), night (8 hours of 2 cores; not run), paper (one GPU; not run), pod (TPU v5e
16x16; compiled ahead of time only, tests/test_pods.py). The argument chooses the images too:
":paper,dataset=cifar10".
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "demo", "night", "paper", "pod"),
    "dataset": ("fashion_mnist", "mnist", "cifar10"),
    "kind": ("np", "hnp", "pt", "mlp", "mlp_aug"),
}
ALLOWED = {
    "model.kind": CHOICES["kind"],
    "model.inputs": (
        *("weights", "canonical", "invariant", "weights+probes", "canonical+probes"),
        *("kernels", "biases", "no_last_bias"),  # parts of the weights
    ),
    "model.dtype": sections.FLOATS,
    "data.name": CHOICES["dataset"],
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "nfn.equivariant:inr_classification"
    config.num_steps = 200_000  # Table 14
    config.batch_size = 32  # Table 14
    config.eval_every = 3_000  # released code
    config.checkpoint_every = 3_000
    config.best_metric = "valid_accuracy"  # released code: early stopping on validation data
    config.evaluate_chunk = 64
    # Released code: the original and 20 or 10 more.
    copies = 21 if args["dataset"] == "cifar10" else 11
    config.data = sections.siren_set(args["dataset"], copies=copies)
    config.model = _model(args["dataset"])
    config.model.kind = args["kind"]
    config.optimizer = sections.optimizer("adam", 1e-4, "constant", 10_000)  # Table 14
    if args["preset"] in ("demo", "cpu", "night"):
        _cpu(config)
    if args["preset"] == "demo":
        _demo(config)
    elif args["preset"] == "night":
        _night(config)
    elif args["preset"] == "pod":  # as one GPU of the paper
        sections.set_big_pod(config, num_steps=20_000, every=500, warmup_steps=1_000)
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    if config.model.kind.startswith("mlp") and config.model.inputs not in ("weights", "canonical"):
        raise ValueError(
            f"config.model.inputs={config.model.inputs!r}: kind {config.model.kind} reads weights "
            "or canonical"
        )
    require_at_least_one(config.model, "config.model", "channels", "num_layers", "num_probes")
    for name in ("head_dropout", "channel_dropout"):
        if not 0 <= config.model[name] < 1:
            raise ValueError(f"config.model.{name}={config.model[name]}: expected 0 <= rate < 1")
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk")


def _model(dataset: str) -> ConfigDict:
    mnist = dataset == "mnist"  # the released configs differ, the paper prints those of CIFAR-10
    return ConfigDict(
        dict(
            kind="np",
            inputs="weights",  # or canonical, invariant, weights+probes, canonical+probes
            num_probes=32,
            channels=512,  # Table 14
            num_layers=3,  # Table 14
            frequencies=128,  # App. D.3
            fourier_scale=3.0 if mnist else 10.0,
            io_bands=3 if mnist else 6,
            io_max_frequency=3.0 if mnist else 10.0,
            head_widths=(1_000, 1_000),  # Table 14
            head_dropout=0.1 if mnist else 0.5,
            channel_dropout=0.1 if mnist else 0.0,
            mlp_widths=(1_000, 1_000),  # App. D.3: three layers of 1000 units, the last the output
            dtype="float32",
            remat=False,
        )
    )


def _cpu(config: ConfigDict) -> None:
    """The same claim on 2 cores: fewer and smaller images, small SIRENs, narrow layers."""
    sections.make_siren_set_small(config.data, train=900, valid=100, test=200)
    config.data.copies = 4
    sections.set_loop(config, num_steps=8_000, batch_size=64, every=1_000, chunk=250)
    config.model.channels, config.model.frequencies, config.model.fourier_scale = 24, 8, 0.5
    config.model.num_probes = 16
    config.model.io_bands, config.model.io_max_frequency = 3, 3.0
    config.model.head_widths = (256, 256)
    config.optimizer = sections.optimizer("adam", 2e-3, "cosine", 100)


def _demo(config: ConfigDict) -> None:
    """Four classes, fewer steps: minutes instead of the better part of an hour."""
    config.data.classes = (1, 2, 8, 9)  # trouser, pullover, bag, ankle boot
    config.data.copies = 1
    config.num_steps, config.eval_every = 1_000, 250
    config.checkpoint_every = 500


def _night(config: ConfigDict) -> None:
    """As cpu with the paper's copies, and as many networks read as there; wide layers."""
    config.data.copies = 11
    config.num_steps = 100_000  # of 64 networks: 200,000 of 32
    config.eval_every, config.checkpoint_every = 2_500, 500
    config.model.channels, config.model.frequencies = 160, 16
    config.model.head_widths = (512, 512)
    config.optimizer.learning_rate = 1e-3  # below that of cpu, for layers seven times as wide
    config.optimizer.warmup_steps = 1_000
