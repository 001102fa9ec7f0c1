"""Networks on images under SAM: rank of features by depth and radius (Andriushchenko et al. 2023).

    lab train --config=landscape/sam_rank/configs/images.py:cpu --config.gradient.rho=0.1
    lab train --config=landscape/sam_rank/configs/images.py:cpu,network=vit
    lab train --config=landscape/sam_rank/configs/images.py:cpu,recipe=sota,length=long
    lab train --config=landscape/sam_rank/configs/images.py:paper,recipe=sota
    lab table landscape.sam_rank images --preset=cpu
    lab compile --config=landscape/sam_rank/configs/images.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; five classes of the embedded Fashion-MNIST, the other five are the transfer
set; measured time and result in results/images.cpu.md), paper (one GPU, CIFAR-10, ResNet-18 of
width 64, 200 epochs; not run), pod (TPU v5e 16x16, the same in batches of 1,024, or ViT-B/16 and
Mixer-B/16 on images enlarged to 224 x 224, all without ranks; compiled ahead of time only,
tests/test_pods.py).
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from common.data import data_sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "network": ("preact", "postact", "preact_group", "vit", "mixer"),
    "recipe": ("minimal", "sota"),
    "length": ("short", "long"),  # of preset cpu; the others have that of the released code
}
ALLOWED = {
    "cost": ("cross_entropy", "squared"),
    "data.images": data_sections.IMAGES,
    "model.kind": ("preact", "postact", "vit", "mixer"),
    "measure.method": ("auto", "gram", "svd"),
}
BATCH, EPOCHS = 256, 200  # released code
STEPS_OF_EPOCH = 49_950 // BATCH  # the last batch is dropped; 0.1 % of the images are held out
# Released code: of CIFAR-10.
CIFAR = dict(mean=(0.4914, 0.4822, 0.4465), deviation=(0.2023, 0.1994, 0.2010))
FASHION = dict(mean=(0.286,), deviation=(0.353,))
SIZES = {  # of B/16, and of what two cores train in seconds
    "B/16": dict(patch=16, hidden=768, layers=12, mlp=3072, heads=12, tokens_mlp=384, resize=224),
    "tiny": dict(patch=7, hidden=64, layers=4, mlp=128, heads=4, tokens_mlp=64, resize=0),
}
SKIPPED = {"vit": ("tokens_mlp",), "mixer": ("heads",)}  # fields that a network does not have


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    preset, network = chosen["preset"], chosen["network"]
    is_cpu = preset == "cpu"
    config = ConfigDict()
    config.experiment = "landscape.sam_rank:images"
    config.cost = "cross_entropy"  # "squared": regression on one-hot labels
    config.batch_size, config.num_steps = BATCH, EPOCHS * STEPS_OF_EPOCH
    config.eval_every, config.steps_per_call = 10 * STEPS_OF_EPOCH, 10
    config.evaluate_chunk = 500
    config.augment = True  # crops of images padded by 4 pixels, and mirrored ones
    config.data = ConfigDict(dict(**data_sections.cifar10(num_train=50_000), seen=10, num_valid=50))
    config.pixels = ConfigDict(CIFAR)
    config.model = _model(network, is_cpu)
    config.optimizer = ConfigDict(_optimizer(network, chosen["recipe"]))
    config.gradient = ConfigDict(
        dict(name="sam", rho=0.0, statistics="both")
    )  # rho = 0: plain; both: released code
    config.measure = ConfigDict(
        dict(
            samples=10_240,  # training images whose features are ranked: n; 0: nothing of features
            share=0.99,  # of the energy of the features
            method="gram",  # of `landscape.rank.singular_values`
            active_share=5,  # percent of examples that an active unit is on for, in rank per unit
            transfer=(3, 4, 5),  # places whose features classify the transfer set
            neighbors=10,
        )
    )
    if is_cpu:
        _set_cpu(config, is_long=chosen["length"] == "long")
    elif preset == "pod":  # four images a chip
        config.batch_size, config.num_steps, config.eval_every = 1_024, 9_600, 960
        config.measure.samples = 0  # its compiler takes too long for eigenvalues
        config.evaluate_chunk = 1_024
        config.mesh = ConfigDict(dict(data=-1))
    return config


def _set_cpu(config: ConfigDict, *, is_long: bool) -> None:
    """Changes what takes two cores too long; long ones have time to switch units off."""
    config.data = ConfigDict(dict(**data_sections.embedded(num_train=4_000), seen=5, num_valid=500))
    config.pixels = ConfigDict(FASHION)
    config.augment = False  # moved by 4 of 14 pixels, images are hard to tell
    steps = 600 if is_long else 300
    config.batch_size, config.num_steps, config.eval_every = 64, steps, steps
    config.steps_per_call, config.seed_group = 1, 1 if is_long else 3
    config.measure.samples, config.measure.method = 1_000, "auto"


def _model(network: str, is_cpu: bool) -> ConfigDict:
    """Returns the section of a network."""
    kind, _, norm = network.partition("_")
    if kind in SKIPPED:
        sizes = SIZES["tiny" if is_cpu else "B/16"]
        kept = {name: value for name, value in sizes.items() if name not in SKIPPED[kind]}
        return ConfigDict(dict(kind=kind, **kept))
    return ConfigDict(
        dict(
            kind=kind,
            depth=10 if is_cpu else 18,
            width=8 if is_cpu else 64,
            norm=norm or "batch",
            groups=4 if is_cpu else 32,  # of norm "group"
            stem_stride=2 if is_cpu else 1,
        )
    )


def _optimizer(network: str, recipe: str) -> dict[str, object]:
    """Returns the recipe: both of the released code; that of transformers is ours."""
    if network in SKIPPED:
        return dict(name="adam", learning_rate=1e-3)
    if recipe == "minimal":
        return dict(name="sgd", learning_rate=0.05, momentum=0.0, weight_decay=0.0)
    return dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="step",
        decay_at=(0.5, 0.9),
        decay_factor=0.1,
    )


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config, "config", "evaluate_chunk")
    require_at_least_one(config.measure, "config.measure", "neighbors")
    measure, data = config.measure, config.data
    most = data.num_train * data.seen // 10 - data.num_valid
    if measure.samples and not 2 <= measure.samples <= most:
        raise ValueError(
            f"config.measure.samples={measure.samples}: expected 2 to {most}, the training images "
            "of config.data, or 0"
        )
    if not 0 < measure.share < 1:
        raise ValueError(f"config.measure.share={measure.share}: expected 0 < share < 1")
    if measure.active_share not in (0, 1, 5, 10):
        raise ValueError(
            f"config.measure.active_share={measure.active_share}: expected 0, 1, 5 or 10 percent"
        )
    if not all(1 <= number <= 5 for number in measure.transfer):
        raise ValueError(f"config.measure.transfer={measure.transfer}: expected places 1 to 5")
    if config.augment and data.size < 8:
        raise ValueError(
            f"config.augment=True: images of config.data.size={data.size} pixels would leave the "
            "picture; expected at least 8"
        )
