"""Edit images by changing the weights of the SIRENs fitted to them (Zhou et al. 2023, Table 6).

    lab train --config=nfn/equivariant/configs/editing.py:cpu,edit=dilate,kind=hnp --workdir=runs
    lab table nfn.equivariant 6 --preset=cpu --workdir=runs
    lab compile --config=nfn/equivariant/configs/editing.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/6.cpu.md), paper (one GPU; not run),
pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). Without `dataset` and
`edit` these are the paper's: MNIST with dilation and CIFAR-10 with contrast; cpu: Fashion-MNIST.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "dataset": ("fashion_mnist", "mnist", "cifar10"),
    "edit": ("dilate", "erode", "gradient", "contrast", "translate", "rotate"),
    "kind": ("np", "hnp", "pt", "mlp", "mlp_aug"),
}
ALLOWED = {
    "model.kind": CHOICES["kind"],
    "model.dtype": sections.FLOATS,
    "data.name": CHOICES["dataset"],
    "data.edit": CHOICES["edit"],
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES, dataset="", edit="")
    model = _model(args["kind"])
    config = sections.editing(args["preset"], args["dataset"], args["edit"], model=model)
    config.experiment = "nfn.equivariant:editing"
    if args["preset"] == "cpu":  # narrow layers
        config.model.channels, config.model.frequencies, config.model.fourier_scale = 24, 8, 0.5
        config.model.mlp_widths = (256, 256, 256)
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    require_at_least_one(config.model, "config.model", "channels", "num_layers")
    sections.check_editing(config)


def _model(kind: str) -> ConfigDict:
    return ConfigDict(
        dict(
            kind=kind,
            canonical=False,
            channels=128,  # Table 16
            num_layers=3,  # Table 16
            frequencies=128,  # App. D.4
            fourier_scale=3.0,  # released code
            io_bands=3,  # released code
            io_max_frequency=3.0,  # released code
            mlp_widths=(1_000, 1_000, 1_000),  # released code; App. D.4 says four layers
            initial_scale=0.01,  # released code
            dtype="float32",
            remat=False,
        )
    )
