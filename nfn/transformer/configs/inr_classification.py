"""Classify images by INR2ARRAY arrays of SIRENs (Zhou et al. 2023, arXiv 2305.13546).

    lab train --config=nfn/transformer/configs/inr_classification.py:cpu --workdir=runs
    lab table nfn.transformer classification --preset=cpu --workdir=runs
    lab compile --config=nfn/transformer/configs/inr_classification.py:pod --topology=v5e:16x16

`config.encoder` is a whole config of inr2array.py: it is trained first, once, with the seed of this
run. Presets: cpu (2 cores; measured time and result in results/classification.cpu.md), paper
(one GPU; not run), pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The
argument chooses images and encoder too: ":paper,dataset=cifar10,kind=np".
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from nfn.tasks import sections
from nfn.transformer.configs import inr2array

CHOICES = inr2array.CHOICES  # of the encoder
ALLOWED = {
    **{f"encoder.{name}": values for name, values in inr2array.ALLOWED.items()},
    "model.dtype": sections.FLOATS,
    "array_dtype": sections.FLOATS,
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "nfn.transformer:inr_classification"
    # Released code: 100 epochs of 550 000 or 495 000 arrays
    images = 55_000 if args["dataset"] == "fashion_mnist" else 45_000
    config.num_steps = 100 * images * 11 // 128
    config.batch_size = 128  # released code
    config.eval_every = config.checkpoint_every = 0
    config.best_metric = "valid_accuracy"  # released code
    config.evaluate_chunk = config.encode_chunk = 64
    config.array_dtype = "float32"  # in which arrays are kept
    config.mixup = 0.0  # released code: alpha of the Beta distribution
    config.model = ConfigDict(
        dict(
            width=512,  # this and the next: released code
            num_layers=12,
            num_heads=4,
            ff_width=2_048,
            dropout=0.1,
            num_positions=64,
            dtype="float32",
        )
    )
    config.optimizer = sections.optimizer("adamw", 1e-4, "cosine", 10_000)
    config.optimizer.weight_decay = 0.1
    config.encoder = inr2array.get_config(arg)
    if args["preset"] == "cpu":
        sections.set_loop(config, num_steps=2_000, batch_size=64, every=250, chunk=250)
        config.encode_chunk = 250
        config.model.width, config.model.num_layers, config.model.ff_width = 64, 2, 128
        config.optimizer.learning_rate, config.optimizer.warmup_steps = 1e-3, 100
    else:
        config.eval_every = config.checkpoint_every = 1_000
        config.num_steps -= config.num_steps % 1_000
    if args["preset"] == "pod":
        sections.set_pod(config, per_chip=64, num_steps=3_000, every=100)
        config.optimizer.warmup_steps = 100
        config.model.dtype = config.array_dtype = "bfloat16"  # 5 GB of arrays a chip
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    inr2array.check(config.encoder)
    require_at_least_one(
        config.model, "config.model", "width", "num_layers", "num_heads", "ff_width"
    )
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk", "encode_chunk")
    if config.mixup < 0:
        raise ValueError(f"config.mixup={config.mixup}: expected 0 or more")
