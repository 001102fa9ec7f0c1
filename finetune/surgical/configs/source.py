"""Networks before the shift: the sources that are adapted (Lee et al. 2023).

    lab train --config=finetune/surgical/configs/source.py:cpu
    lab train --config=finetune/surgical/configs/source.py:cpu,task=background
    lab compile --config=finetune/surgical/configs/source.py:pod,network=resnet50
        --topology=v5e:16x16

Presets: cpu (2 cores; a small network on the embedded Fashion-MNIST), paper (one GPU, CIFAR-10,
ResNet-26 or WRN-28-10; not run), pod (TPU v5e 16x16, batches of 1,024; compiled ahead of time only,
tests/test_pods.py). `config.file` names a published network in its place.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from common.data import data_sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "network": ("resnet26", "wrn28_10", "resnet50"),
    "task": ("classes", "groups", "background"),
}
ALLOWED = {
    "data.images": data_sections.IMAGES,
    "data.task": CHOICES["task"],
    "model.norm": ("group", "batch"),
    "model.shortcut": ("padding", "projection"),
}
FASHION = dict(mean=(0.286,), deviation=(0.353,))
CENTERED = dict(mean=(0.5,) * 3, deviation=(0.5,) * 3)  # MEMO's checkpoints: (x - .5) / .5
RESNET26 = dict(  # Zhang et al. (2022), MEMO: 6 N + 2 layers, N = 4
    blocks=(4, 4, 4),
    widths=(16, 32, 64),
    norm="group",
    groups=8,
    shortcut="padding",
    bottleneck=False,
    stem=3,
    stem_stride=1,
    stem_pool=1,
    num_classes=10,
    dtype="",
)
NETWORKS = {
    "resnet26": RESNET26,
    "wrn28_10": {
        **RESNET26,
        "widths": (160, 320, 640),
        "norm": "batch",
        "shortcut": "projection",
    },
    "resnet50": {
        **RESNET26,
        "blocks": (3, 4, 6, 3),
        "widths": (64, 128, 256, 512),
        "norm": "batch",
        "shortcut": "projection",
        "bottleneck": True,
        "stem": 7,
        "stem_stride": 2,
        "stem_pool": 2,
    },
}


def _small(network: str) -> dict[str, object]:
    """Returns a network of the same kind that two cores train in seconds."""
    stages = len(NETWORKS[network]["widths"])
    widths = (8, 16, 32, 64)[:stages]
    small = dict(blocks=(1,) * stages, widths=widths, groups=4, stem_stride=2)
    return {**NETWORKS[network], **small}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    preset = chosen["preset"]
    config = ConfigDict()
    config.experiment = "finetune.surgical:source"
    config.file = ""  # of a published network in $DATA_DIR, in the place of a trained one
    config.batch_size, config.num_steps, config.eval_every = 128, 200 * 390, 3_900
    config.evaluate_chunk = 500
    config.data = ConfigDict(
        dict(
            **data_sections.cifar10(num_train=50_000),
            num_source=45_000,
            num_pool=5_000,  # behind them: what target sets are drawn from
            task=chosen["task"],
            agreement=0.95,  # Sagawa et al. (2020): of background and label
            strength=0.5,
        )
    )
    config.pixels = ConfigDict(CENTERED)
    config.model = ConfigDict(NETWORKS[chosen["network"]])
    config.optimizer = ConfigDict(
        dict(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=5e-4, schedule="cosine")
    )
    if preset == "cpu":
        config.data.update(data_sections.embedded(num_train=10_000))
        config.data.num_source, config.data.num_pool = 6_000, 4_000
        config.pixels, config.model = ConfigDict(FASHION), ConfigDict(_small(chosen["network"]))
        config.batch_size, config.num_steps, config.eval_every = 32, 1_500, 0
        config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-2, schedule="cosine"))
    elif preset == "pod":
        config.batch_size, config.num_steps, config.eval_every = 1_024, 9_600, 960
        config.evaluate_chunk = 1_024
        config.mesh = ConfigDict(dict(data=-1))
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config, "config", "evaluate_chunk")
    if not 0.5 <= config.data.agreement <= 1:
        raise ValueError(f"config.data.agreement={config.data.agreement}: expected 0.5 to 1")
