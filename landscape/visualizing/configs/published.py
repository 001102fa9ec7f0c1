"""The published ResNets for CIFAR-10: surfaces of networks that others have trained.

    lab table landscape.visualizing published --preset=cpu
    lab table landscape.visualizing published --preset=half
    lab table landscape.visualizing published --preset=fine
    lab train --config=landscape/visualizing/configs/published.py:paper,depth=56

The cells of the table train nothing: they read `config.weights` and the lossless subset of the
images, both in $DATA_DIR. `lab train` is the recipe by which such a network is trained. Presets:
cpu (11 x 11 points over 60 images, three pairs of directions), half (25 x 25 points over 250
images, one pair), fine (51 x 51 points over 1,000 images, one pair; hours, resumable; committed of
ResNet-20), paper (all of CIFAR-10, one GPU; not run). Measured times and results are in
results/published.cpu.md, published.half.md and published.fine.md.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from landscape.visualizing import sections

CHOICES = {
    "preset": ("cpu", "half", "fine", "paper"),
    "depth": ("20", "32", "44", "56"),
}
ALLOWED = sections.ALLOWED


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    depth = chosen["depth"]
    config = sections.base("published")
    config.weights = f"cifar10_resnets/resnet{depth}.npz"  # below $DATA_DIR
    config.model = ConfigDict(
        dict(kind="padded_resnet", depth=int(depth), width=16, shortcuts=True)
    )
    config.data.mean, config.data.deviation = sections.IMAGENET.values()
    # Of the published networks: 200 epochs, the rate drops after 100 and 150.
    config.batch_size, config.num_steps, config.eval_every = 128, 78_200, 7_820
    config.steps_per_call = 10
    config.optimizer.nesterov, config.optimizer.weight_decay = False, 1e-4
    config.optimizer.decay_at = (0.5, 0.75)
    # Ours: lines along random directions; the paper compares contours of loss 0.1 (Sec. 5.1).
    config.surface.lines, config.surface.line_points, config.surface.line_span = 3, 21, 0.5
    config.surface.level = 0.1
    config.surface.planes = 1
    if chosen["preset"] != "paper":
        config.data.images, config.data.source = "cifar10_lossless", "DATA_DIR"
        config.data.num_train, config.data.num_test = 1_000, 1_000
        config.surface.images, config.surface.chunk = 1_000, 20
        config.surface.products = 16
    if chosen["preset"] == "half":
        config.surface.points, config.surface.images = 25, 250
    if chosen["preset"] == "cpu":
        config.surface.points, config.surface.line_points = 11, 11
        config.surface.images, config.surface.products = 60, 8
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    sections.check_sections(config)
    surface = config.surface
    require_at_least_one(surface, "config.surface", "lines")
    if surface.planes != 1 or surface.line_span <= 0:
        raise ValueError(
            f"config.surface.planes={surface.planes}, line_span={surface.line_span}: expected 1, "
            "since seeds are other planes, and a span above 0"
        )
