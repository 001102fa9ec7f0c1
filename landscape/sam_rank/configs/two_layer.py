"""Two-layer networks that learn a small teacher, one example a step (Andriushchenko et al. 2023).

    lab train --config=landscape/sam_rank/configs/two_layer.py:cpu --config.gradient.rho=0.4
    lab train --config=landscape/sam_rank/configs/two_layer.py:cpu,activation=tanh
    lab train --config=landscape/sam_rank/configs/two_layer.py:cpu,data=golden
    lab table landscape.sam_rank two_layer --preset=cpu
    lab compile --config=landscape/sam_rank/configs/two_layer.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; the paper's sizes, eight seeds as one program; measured time and result in
results/two_layer.cpu.md), paper (the same, one seed at a time), pod (TPU v5e 16x16, 1,024 seeds,
four a chip; compiled ahead of time only, tests/test_pods.py). With data=golden the numbers that the
authors' random generators gave take the place of ours, and a run is one of those they recorded: the
same one at every preset.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "activation": ("relu", "abs", "tanh"),
    "data": ("random", "golden"),
}
ALLOWED = {"data.kind": CHOICES["data"], "model.activation": CHOICES["activation"]}
RATES = {"relu": 0.1, "abs": 0.01, "tanh": 0.005}  # released code
SCALES = {"relu": 0.3, "abs": 0.3, "tanh": 1.0}  # released code
STEPS = 19_953  # released code: int(10^4.3) + 1
FIRST = STEPS // 2 + 1  # released code: SAM up to update number STEPS // 2, counted from 0
RECORDED = 19_668  # updates before the last line of the authors' logs
GOLDEN_SIZES = {"num_train": 20, "num_test": 1_000, "dimension": 3, "teacher_units": 3}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    activation, is_golden = chosen["activation"], chosen["data"] == "golden"
    config = ConfigDict()
    config.experiment = "landscape.sam_rank:two_layer"
    config.batch_size = 1
    config.num_steps, config.steps_per_call, config.eval_every = STEPS, 739, 739
    config.data = ConfigDict(dict(kind=chosen["data"], **GOLDEN_SIZES))
    config.model = ConfigDict(dict(units=100, activation=activation, scale=SCALES[activation]))
    config.optimizer = ConfigDict(dict(name="sgd", learning_rate=RATES[activation]))
    # In the first half SAM climbs rho far: not at all, if a row does not say how far.
    config.gradient = ConfigDict(dict(name="sam", rho=0.0, stop=FIRST / STEPS))
    # Of the loss + gradient_norm |gradient of the loss|, in the same half.
    config.penalty = ConfigDict(dict(gradient_norm=0.0))
    config.rank_share = 0.9999  # of the energy of the features
    config.probe_rho = 0.01  # at which evaluations take SAM's step apart (ReLU)
    if is_golden:
        config.num_steps, config.steps_per_call, config.eval_every = RECORDED, 1_639, 1_639
        config.gradient.stop = FIRST / RECORDED
        config.x64 = True
    elif chosen["preset"] != "paper":
        config.seed_group = {"cpu": 8, "pod": 1_024}[chosen["preset"]]
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    data = config.data
    require_at_least_one(config, "config", "batch_size")
    require_at_least_one(data, "config.data", "num_test", "dimension", "teacher_units")
    require_at_least_one(config.model, "config.model", "units")
    if data.num_train < 2:
        raise ValueError(f"config.data.num_train={data.num_train}: expected 2 or more")
    if not config.model.scale > 0:
        raise ValueError(f"config.model.scale={config.model.scale}: expected above 0")
    if not config.penalty.gradient_norm >= 0:
        raise ValueError(
            f"config.penalty.gradient_norm={config.penalty.gradient_norm}: expected at least 0"
        )
    if not 0 < config.rank_share < 1:
        raise ValueError(f"config.rank_share={config.rank_share}: expected 0 < rank_share < 1")
    if not config.probe_rho > 0:
        raise ValueError(f"config.probe_rho={config.probe_rho}: expected above 0")
    if data.kind == "golden":
        sizes = {**GOLDEN_SIZES, "units": 100, "batch_size": 1}
        found = {**data, "units": config.model.units, "batch_size": config.batch_size}
        for name, size in sizes.items():
            if found[name] != size:
                raise ValueError(f"config.data.kind='golden' has {name}={size}, not {found[name]}")
