"""The networks of single_step on boundary data outside of the range that they were trained on.

    lab train --config=sciml/boon/configs/shift.py:cpu,pde=heat_flux,kind=boon --workdir=runs
    lab table sciml.boon shift --preset=cpu --workdir=runs

Presets: cpu (2 cores; measured times and results in results/shift.cpu.md), paper (the sizes of
single_step's; not run). The argument chooses equation, network and base operator, as there.
"""

from ml_collections import ConfigDict

from common.config import choices
from sciml.boon import sections
from sciml.boon.configs import single_step

PDES = ("stokes", "burgers", "heat_flux")  # boundary data that differ from sample to sample
# Ours: the range of the random parameter is moved by so many of its widths; from 1 on, no sample is
# in the range of training.
SHIFTS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0)
CHOICES = {"preset": ("cpu", "paper"), "pde": PDES, **sections.NETWORKS}
ALLOWED = {"data.name": CHOICES["pde"], **sections.ALLOWED}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    config = single_step.get_config(",".join(f"{key}={value}" for key, value in chosen.items()))
    config.experiment = "sciml.boon:shift"
    config.data.scales = ()
    config.data.shifts = SHIFTS
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    sections.check_sections(config)
