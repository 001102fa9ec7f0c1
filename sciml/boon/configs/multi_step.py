"""Learn the last frames of a PDE's solution at once (Saad et al. 2023, multi-step).

    lab train --config=sciml/boon/configs/multi_step.py:cpu,pde=cavity,kind=boon --workdir=runs
    lab table sciml.boon multi_step --preset=cpu --workdir=runs
    lab compile --config=sciml/boon/configs/multi_step.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/multi_step.cpu.md), paper (one GPU;
not run), pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The argument
chooses equation, network and base operator: ":cpu,pde=wave,kind=plain".
"""

from ml_collections import ConfigDict

from common.config import choices
from sciml.boon import sections

# Time of the last frame. stokes: notebook; heat: notebook (its text says 2, its code 0.5).
TIMES = {
    "stokes": 1.2,
    "burgers": 1.2,
    "burgers_periodic": 1.0,
    "heat": 0.5,
    "wave": 2.0,
    "cavity": 2.0,
}
PLANE = ("wave", "cavity")  # two space axes
CHOICES = {"preset": ("cpu", "paper", "pod"), "pde": tuple(TIMES), **sections.NETWORKS}
ALLOWED = {"data.name": CHOICES["pde"], **sections.ALLOWED}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    preset, pde, kind, base = choices(arg, CHOICES).values()
    config = ConfigDict()
    config.experiment = "sciml.boon:multi_step"
    config.batch_size = 10 if pde == "cavity" else 20  # notebooks
    config.num_steps = 500 * 1_000 // config.batch_size  # notebooks: 500 epochs of 1000 samples
    config.eval_every = 5_000
    config.evaluate_chunk = 10
    config.data = _data(pde, base)
    config.model = _model(pde, kind, base)
    half_life = 100 if pde in ("burgers_periodic", "cavity") else 50  # notebooks: epochs
    config.optimizer = sections.optimizer_section(half_life * 1_000 // config.batch_size)
    if preset == "cpu":
        _cpu(config)
    elif preset == "pod":  # v5e 16x16: two samples a chip
        sections.set_pod(config, num_train=4_096, batch_size=512, num_steps=4_000)
    if pde == "cavity":  # the solver's grid; notebooks: every second point is kept
        every = 4 if preset == "cpu" and base == "fno" else 2
        config.data.resolution = every * (config.data.points - 1) + 1
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    sections.check_sections(config)


def _data(pde: str, base: str) -> ConfigDict:
    # Notebooks: 500 points, 1024 for heat, 128 for the periodic equation, 50 x 50 for the cavity;
    # the wave equation's 25 x 25 are ours. The MWT needs a power of 2.
    points = {"heat": 1_024, "burgers_periodic": 128, "wave": 25, "cavity": 50}.get(pde, 500)
    if base == "mwt":
        points = {"wave": 32, "cavity": 64}.get(pde, 1 << (points - 1).bit_length())
    section = sections.data_section(
        pde,
        points=points,
        final_time=TIMES[pde],
        stored=200,  # notebook of heat
        kept=30 if pde == "wave" else 25,
        num_train=1_000,  # notebooks
        num_test=200,
    )
    if pde == "stokes":
        section.nu = 0.1  # notebook
    if pde == "wave":  # the whole period, not its end
        section.stored = section.kept + 1
    return section


def _model(pde: str, kind: str, base: str) -> ConfigDict:
    is_plane = pde in PLANE
    return sections.model_section(
        kind,
        base,
        modes=(8, 8, 8) if is_plane else (12, 12),  # notebooks
        width=20 if is_plane else 32,  # notebooks
        # Notebooks: 6 or 9 points behind 25 in time only, as BOON does; the released base
        # operator in one dimension pads space too.
        padding=(0.0, 0.0, 0.24) if is_plane else (0.0, 0.36),
        # A multiwavelet axis is refined, the other space axis only written.
        refined_axes=(0, 1) if is_plane and base == "fno" else (0,),
    )


def _cpu(config: ConfigDict) -> None:
    """The same claim on 2 cores: coarser grids, fewer frames and modes, narrower layers."""
    data, model = config.data, config.model
    is_plane = data.name in PLANE
    data.num_train, data.num_test, data.num_valid = 200, 50, 20
    config.num_steps, config.batch_size = (400, 10) if is_plane else (600, 20)
    if is_plane:
        data.points, data.kept = (16 if model.base == "mwt" else 13), 6
        model.modes, model.width = (3, 3, 3), 8
    else:
        data.points, data.kept = 64, 10
        model.modes, model.width = (12, 4), 16
    data.stored = data.kept + 1 if data.name == "wave" else 80
    model.projection = 32
    config.steps_per_call, config.eval_every = 50, config.num_steps // 2
    config.optimizer.decay_every = config.num_steps // 6
    config.seed_group = 3  # one program for all seeds of a row
