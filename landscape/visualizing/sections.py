"""Sections that the configs of both experiments share, and the checks of their values."""

from ml_collections import ConfigDict

from common.config import require_at_least_one
from common.data import data_sections

ALLOWED = {
    "data.images": data_sections.IMAGES,
    "model.kind": ("densenet", "mlp", "padded_resnet", "resnet", "vgg9"),
}
CIFAR10 = {  # released code, dataloader.py
    "mean": (125.3, 123.0, 113.9),
    "deviation": (63.0, 62.1, 66.7),
}
IMAGENET = {  # by which the published networks take pixels, 255 times what their code has
    "mean": (123.675, 116.28, 103.53),
    "deviation": (58.395, 57.12, 57.375),
}
FASHION_MNIST = {  # of the embedded training images, averaged to 14 x 14 pixels
    "mean": (73.1,),
    "deviation": (84.4,),
}


def base(experiment: str) -> ConfigDict:
    """Returns what the configs of both experiments have at preset `paper`: the released recipe."""
    config = ConfigDict()
    config.experiment = f"landscape.visualizing:{experiment}"
    config.evaluate_chunk = 1_000
    config.data = ConfigDict(
        dict(
            **data_sections.cifar10(num_train=50_000),
            augment=True,  # Li et al. (2018), released code: crops and flips
            **CIFAR10,
        )
    )
    config.optimizer = ConfigDict(
        dict(  # Sec. 5 and released code, main.py
            name="sgd",
            learning_rate=0.1,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            schedule="step",
            decay_at=(0.5, 0.75, 0.9167),  # after 150, 225 and 275 of 300 epochs
            decay_factor=0.1,
        )
    )
    config.surface = ConfigDict(
        dict(
            planes=3,  # the paper draws one, and ten in its appendix
            points=51,  # along each direction, released code
            span=1.0,  # from -1 to 1
            line_points=401,  # of the line through two networks, released code
            images=50_000,  # training images, without augmentation
            chunk=1_000,
            at_once=1,
            # Ours. The share of the square with a loss below that of guessing is the basin; lines
            # are as wide as the loss stays below `level`.
            basin=2.303,
            level=0.3,
            products=48,
        )
    )
    return config


def set_cpu(config: ConfigDict) -> None:
    """Changes data and surface to what two cores do in seconds, without any download."""
    config.data = ConfigDict(
        dict(**data_sections.embedded(num_train=1_000), augment=False, **FASHION_MNIST)
    )
    config.surface.points, config.surface.images = 31, 1_000
    config.surface.chunk = 125  # what stays in the processor's cache


def set_pod(config: ConfigDict) -> None:
    """Changes a config to the sizes of a pod: a finer surface, points spread over all chips."""
    config.surface.points, config.surface.planes = 251, 10
    config.steps_per_call = 10
    config.mesh = ConfigDict(dict(data=-1))


def check_sections(config: ConfigDict) -> None:
    """Checks the values that only these experiments can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    data, surface = config.data, config.surface
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk")
    require_at_least_one(config.model, "config.model", "depth", "width")
    counts = ("planes", "points", "line_points", "images", "chunk", "at_once")
    require_at_least_one(surface, "config.surface", *counts)
    for name in ("mean", "deviation"):
        if len(data[name]) != data.channels:
            raise ValueError(
                f"config.data.{name}={data[name]}: expected {data.channels} numbers, one a channel"
            )
    if surface.points < 3 or surface.points % 2 == 0:
        raise ValueError(
            f"config.surface.points={surface.points}: expected an odd number of at least 3, so "
            "that the trained network is a point of the grid"
        )
    if surface.images > data.num_train or surface.images % 10:
        raise ValueError(
            f"config.surface.images={surface.images}: expected a multiple of 10, at most "
            f"config.data.num_train={data.num_train}"
        )
    if surface.products < 2 or surface.span <= 0:
        raise ValueError(
            f"config.surface.products={surface.products}, span={surface.span}: expected at least 2 "
            "products, for a standard error, and a span above 0"
        )
