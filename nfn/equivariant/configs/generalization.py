"""Predict the test accuracy of CNNs from their weights (Zhou et al. 2023, Table 2).

    lab train --config=nfn/equivariant/configs/generalization.py:cpu,kind=hnp --workdir=runs
    lab table nfn.equivariant 2 --preset=cpu --workdir=runs
    lab compile --config=nfn/equivariant/configs/generalization.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/2.cpu.md), paper (one GPU; not run),
pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The networks are
trained here, unless `config.data.files` names a folder of the published Small CNN Zoo.
"""

from ml_collections import ConfigDict

from common.config import choices
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "dataset": ("fashion_mnist", "cifar10"),
    "kind": ("np", "hnp", "statnn"),
}
ALLOWED = {"model.kind": CHOICES["kind"], "model.dtype": sections.FLOATS}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES)
    config = sections.ranking(args["preset"], args["dataset"])
    config.experiment = "nfn.equivariant:generalization"
    config.data.normalize = args["kind"] != "hnp"  # released code; its StatNet has no such option
    config.model = sections.predictor(args["kind"])
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    sections.check_zoo(config.data)
