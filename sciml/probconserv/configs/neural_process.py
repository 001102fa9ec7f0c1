"""Learn solutions of a conservation law from 100 points each (Hansen et al. 2023, all tables).

    lab train --config=sciml/probconserv/configs/neural_process.py:cpu,pde=stefan --workdir=runs
    lab table sciml.probconserv pme --preset=cpu --workdir=runs
    lab compile --config=sciml/probconserv/configs/neural_process.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/*.cpu.md), paper (one GPU; not run), pod
(TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The argument chooses the
law and a soft constraint in training: ":cpu,pde=pme,soft=1" is SoftC-ANP.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one

# Parameters: configuration files of the released code; U[low, high] in training.
RANGES = {
    "diffusion": ((1.0, 5.0), (1.0, 5.0)),
    "pme": ((1.0, 6.0), (1.0, 3.0, 6.0)),
    "stefan": ((0.55, 0.7), (0.6, 0.5)),
    "advection": ((1.0, 5.0), (1.0, 3.0)),
    "burgers_shock": ((1.0, 4.0), (1.0, 3.0)),
}
CHOICES = {"preset": ("cpu", "paper", "pod"), "pde": tuple(RANGES), "soft": 0}
ALLOWED = {"data.name": CHOICES["pde"]}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    preset, pde, soft = choices(arg, CHOICES, pde="pme").values()
    train_range, test_params = RANGES[pde]

    config = ConfigDict()
    config.experiment = "sciml.probconserv:neural_process"
    config.num_steps = 20_000  # released code: 500 epochs of 10 000 functions
    config.batch_size = 250  # released code
    config.eval_every = 400  # released code: 10 epochs
    config.best_metric = "-valid_loss"  # released code: the best validation checkpoint
    config.evaluate_chunk = 10
    config.data = ConfigDict(
        dict(
            name=pde,
            train_range=train_range,
            test_params=test_params,
            num_train=10_000,  # released code
            num_valid=100,  # released code
            num_test=50,  # released code, for every parameter
            context_grid=(10, 10),  # released code: times, places
            target_grid=(10, 10),
            points=201,  # released code: test grid
            seed=0,
        )
    )
    config.model = _model(float(soft))
    config.constraint = ConfigDict(
        dict(
            sigma=0.0,  # of noise in the mass
            correlation=0.9,  # released code, "w/diff"
            cells=4,  # ours
            shock_samples=500 if pde == "stefan" else 0,  # released code
            sigmas=(0.1, 0.01, 0.001) if pde == "pme" else (),
        )
    )
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-4))  # released code
    if preset == "cpu":
        _cpu(config)
    elif preset == "pod":  # v5e 16x16: four functions a chip
        config.data.num_train, config.data.num_test = 100_000, 256
        config.batch_size = config.evaluate_chunk = 1_024
        config.optimizer.learning_rate = 4e-4
        config.num_steps, config.eval_every = 5_000, 500
        config.steps_per_call = 10
        config.mesh = ConfigDict(dict(data=-1))
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk")
    sizes = ("width", "latent", "heads", "num_samples", "soft_points")
    require_at_least_one(config.model, "config.model", *sizes)
    if config.model.soft_weight < 0:
        raise ValueError(f"config.model.soft_weight={config.model.soft_weight}: expected >= 0")
    if config.constraint.shock_samples < 0 or min(config.constraint.sigmas, default=1) <= 0:
        raise ValueError(
            f"config.constraint: shock_samples={config.constraint.shock_samples}, sigmas="
            f"{config.constraint.sigmas}: expected >= 0 and numbers > 0"
        )


def _model(soft_weight: float) -> ConfigDict:
    return ConfigDict(
        dict(  # released code
            width=128,
            latent=128,
            heads=4,
            dropout=0.1,
            soft_weight=soft_weight,  # of the PDE penalty (SoftC-ANP); the paper's is 1
            soft_points=100,  # targets at which it is taken: all
            num_samples=100,
            # Released code: dropout is on in prediction, by accident. Off and on are measured.
            inference_dropouts=(0, 1),
        )
    )


def _cpu(config: ConfigDict) -> None:
    """The same claims on 2 cores: a quarter of the width, fewer functions at a time and steps."""
    model = config.model
    model.width = model.latent = 32
    model.num_samples = 20
    model.soft_points = 10
    config.batch_size, config.num_steps = 8, 1_000
    config.optimizer.learning_rate, config.optimizer.schedule = 1e-3, "cosine"
    config.data.num_train = 8_000  # every function once: drawn, not stored
    config.steps_per_call, config.eval_every = 50, 250
    config.evaluate_chunk = 25
    if config.data.name not in ("pme", "stefan") or model.soft_weight > 0:
        model.inference_dropouts = (0,)  # table dropout is of these two laws
