"""Sections that the configs of the experiments share, and the checks of their values."""

from ml_collections import ConfigDict

from common.config import require_at_least_one
from common.data import data_sections

ALLOWED = {
    "cost": ("cross_entropy", "squared"),
    "data.images": data_sections.IMAGES,
    "model.kind": ("mlp", "resnet18", "vgg11"),
    "model.activation": ("elu", "hardtanh", "relu", "softplus", "tanh"),
}
NETWORKS = ("mlp", "vgg11", "vgg11_bn", "resnet18")


def base(experiment: str, network: str) -> ConfigDict:
    """Returns data, network and what is watched at preset `paper`: a GPU, Cohen et al. (2021)."""
    config = ConfigDict()
    config.experiment = f"landscape.sharpening:{experiment}"
    config.evaluate_chunk = 1_000
    config.cost = "squared"
    config.smoothing = 0.0  # of labels
    # Of every class as many images; there the first rows.
    config.data = ConfigDict(data_sections.cifar10(num_train=5_000))
    kind, _, norm = network.partition("_")
    config.model = ConfigDict(
        dict(
            kind=kind,
            depth=3,  # of an MLP: two hidden layers of 200 neurons
            width=200 if kind == "mlp" else 64,
            activation="tanh",  # of an MLP
            norm=norm == "bn",
        )
    )
    config.watch = ConfigDict(
        dict(
            samples=1_000,  # training images whose Jacobians are taken
            chunk=250,  # of them at a time
            products=12,  # with the Gauss-Newton matrix, in a Krylov space of its own every time
            rounds=8,  # of power iteration on the Jacobians of layers
            pairs=16,  # of training images with the largest lower bounds of a Jacobian
        )
    )
    return config


def sgd(learning_rate: float) -> ConfigDict:
    """Returns an optimizer whose limit of stability is known, with all fields it depends on."""
    return ConfigDict(
        dict(
            name="sgd",
            learning_rate=learning_rate,
            momentum=0.0,
            nesterov=False,
            weight_decay=0.0,
        )
    )


def set_cpu(config: ConfigDict) -> None:
    """Changes data, network and what is watched to what two cores do in seconds."""
    config.data = ConfigDict(data_sections.embedded(num_train=500))
    config.model.width = {"mlp": 64, "vgg11": 4, "resnet18": 4}[config.model.kind]
    config.watch.samples, config.watch.chunk = 100, 100


def check_sections(config: ConfigDict) -> None:
    """Checks the values that only these experiments can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config, "config", "evaluate_chunk")
    require_at_least_one(config.model, "config.model", "depth", "width")
    watch = config.watch
    require_at_least_one(watch, "config.watch", "chunk", "products", "rounds", "pairs")
    if not 2 <= watch.samples <= config.data.num_train:
        raise ValueError(
            f"config.watch.samples={watch.samples}: expected 2 to "
            f"config.data.num_train={config.data.num_train}"
        )
    if not 0 <= config.smoothing < 1:
        raise ValueError(
            f"config.smoothing={config.smoothing}: expected 0 <= smoothing < 1, a share of 1"
        )
    if config.optimizer.name != "sgd":
        raise ValueError(
            f"config.optimizer.name={config.optimizer.name!r}: expected 'sgd', whose limit of "
            "stability is known"
        )
