"""Edit images by changing the weights of the SIRENs fitted to them (Zhou et al. 2023, NFT).

    lab train --config=nfn/transformer/configs/editing.py:cpu,edit=erode --workdir=runs
    lab table nfn.transformer editing --preset=cpu --workdir=runs
    lab compile --config=nfn/transformer/configs/editing.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/editing.cpu.md), paper (one GPU;
not run), pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The text of the
paper could not be read: data and training are those of the authors' paper before it
(nfn.equivariant, here "NFN"), the blocks those of their released code for INR2ARRAY. Without
`dataset` and `edit`: MNIST with dilation, CIFAR-10 with contrast; cpu: Fashion-MNIST.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "dataset": ("fashion_mnist", "mnist", "cifar10"),
    "edit": ("dilate", "erode", "gradient", "contrast", "translate", "rotate"),
}
ALLOWED = {
    "model.dtype": sections.FLOATS,
    "data.name": CHOICES["dataset"],
    "data.edit": CHOICES["edit"],
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES, dataset="", edit="")
    # Trained as NFN. The number of blocks could not be read; NFN has as many layers.
    model = sections.attention(num_blocks=3)
    config = sections.editing(args["preset"], args["dataset"], args["edit"], model=model)
    config.experiment = "nfn.transformer:editing"
    config.editor = ConfigDict(
        dict(
            canonical=False,  # ours
            initial_scale=0.01,  # released code of NFN
        )
    )
    if args["preset"] == "cpu":  # two narrow blocks
        config.model.channels, config.model.num_blocks = 16, 2
        config.model.num_heads, config.model.ff_ratio = 2, 2
        config.model.frequencies, config.model.fourier_scale = 8, 0.5
        config.optimizer.learning_rate = 5e-3
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    require_at_least_one(
        config.model, "config.model", "channels", "num_blocks", "num_heads", "ff_ratio"
    )
    sections.check_editing(config)
