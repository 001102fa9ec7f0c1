"""Learn the solution of a one-dimensional PDE at one time (Saad et al. 2023, single-step).

    lab train --config=sciml/boon/configs/single_step.py:cpu,pde=heat,kind=boon --workdir=runs
    lab table sciml.boon single_step --preset=cpu --workdir=runs
    lab compile --config=sciml/boon/configs/single_step.py:pod --topology=v5e:16x16

Presets: cpu and paper (2 cores; measured times and results in results/single_step.cpu.md and
single_step.paper.md), pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The
argument chooses equation, network and base operator: ":cpu,pde=stokes,kind=plain,base=mwt".
"""

from ml_collections import ConfigDict

from common.config import choices
from sciml.boon import sections

TIMES = {
    "stokes": 2.0,
    "burgers": 1.2,
    "burgers_front": 1.2,
    "burgers_periodic": 1.0,
    "heat": 0.5,
    "heat_flux": 0.5,
}
CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "pde": tuple(TIMES),
    **sections.NETWORKS,
    "clip": 0.0,  # ours: largest norm of a gradient; 0: any
}
ALLOWED = {"data.name": CHOICES["pde"], **sections.ALLOWED}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    preset, pde, kind, base, clip = choices(arg, CHOICES).values()
    is_mwt = base == "mwt"
    config = ConfigDict()
    config.experiment = "sciml.boon:single_step"
    config.num_steps = 12_500  # notebooks: 500 epochs of 500 samples
    config.batch_size = 20  # notebooks
    config.eval_every = 2_500
    config.evaluate_chunk = 20
    config.data = sections.data_section(
        pde,
        # Notebooks: 500; 128 for the periodic one. The MWT needs a power of 2.
        points=128 if pde == "burgers_periodic" else 512 if is_mwt else 500,
        final_time=TIMES[pde],
        stored=2,
        kept=1,
        num_train=500,  # notebooks
        num_test=100,
        scales=(0.5, 2.0, 4.0),  # ours: transfer to other resolutions
    )
    config.model = sections.model_section(
        kind,
        base,
        modes=(10,) if is_mwt else (16,),  # released code of the MWT; notebooks
        width=64,  # notebooks; MWT: 16 channels of 4 polynomials
        padding=(0.0,),
    )
    config.optimizer = sections.optimizer_section(decay_every=1_250)  # notebooks: 50 epochs
    if clip:
        config.optimizer.clip_norm = clip
    if preset == "cpu":
        _cpu(config)
    elif preset == "pod":  # v5e 16x16: four samples a chip
        sections.set_pod(config, num_train=16_384, batch_size=1_024, num_steps=8_000)
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    sections.check_sections(config)


def _cpu(config: ConfigDict) -> None:
    """The same claim on 2 cores: half the width, a quarter of the points, fewer steps."""
    config.data.points = 64
    config.data.num_train, config.data.num_test = 200, 100
    config.model.width, config.model.projection = 32, 64
    config.model.modes = (8,) if config.model.base == "mwt" else (12,)
    config.num_steps = 800 if config.model.base == "mwt" else 1_600
    config.steps_per_call, config.eval_every = 100, 400
    config.optimizer.decay_every = config.num_steps // 6
    config.evaluate_chunk = 50
    config.seed_group = 3  # one program for all seeds of a row
