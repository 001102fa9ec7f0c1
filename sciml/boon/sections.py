"""Sections that the configs of both experiments share, and the checks of their values."""

from ml_collections import ConfigDict

from common.config import require_at_least_one
from sciml.pdes.benchmarks import BENCHMARKS

NETWORKS = {  # as every config file offers them
    "kind": (
        *("boon", "plain", "inputs", "last", "write", "boon_value", "boon_inputs"),
        *("plain_released", "write_released", "exact_released", "boon_released"),
    ),
    "base": ("fno", "mwt"),
}
ALLOWED = {f"model.{name}": values for name, values in NETWORKS.items()}


def data_section(name: str, **fields: object) -> ConfigDict:
    """Returns `config.data` of an equation; `fields` are grid, times and numbers of samples."""
    numbers = BENCHMARKS[name]._asdict()
    return ConfigDict(numbers | dict(seed=0, scales=(), num_valid=50) | dict(fields))


def model_section(kind: str, base: str, **fields: object) -> ConfigDict:
    """Returns `config.model`; `fields` are sizes of the base operator."""
    mwt = base == "mwt"
    return ConfigDict(
        dict(
            kind=kind,
            base=base,
            num_layers=2 if mwt else 4,  # notebooks; released code of the MWT
            projection=128,
            wavelet_order=4,  # released code of the MWT
            refined_axes=(0,),
            stencil_order=3,  # notebooks: right end
            # Ours, from validation errors of BOON-MWT on heat with 1e-4 and 0.1: with less, weak
            # directions of a boundary block are blown up and it does not learn.
            damping=0.1,
        )
        | dict(fields)
    )


def optimizer_section(decay_every: int) -> ConfigDict:
    """Returns `config.optimizer` of the notebooks: Adam, half the rate every `decay_every`."""
    return ConfigDict(
        dict(
            name="adam",
            learning_rate=1e-3,
            weight_decay=1e-4,
            schedule="step",
            decay_every=decay_every,
            decay_factor=0.5,
        )
    )


def set_pod(config: ConfigDict, *, num_train: int, batch_size: int, num_steps: int) -> None:
    """Changes a config to the sizes of a pod; there are as many test samples as in a batch."""
    config.data.num_train, config.data.num_test = num_train, batch_size
    config.batch_size = config.evaluate_chunk = batch_size
    config.num_steps = num_steps
    config.eval_every = config.optimizer.decay_every = num_steps // 10
    config.steps_per_call = 10
    config.mesh = ConfigDict(dict(data=-1))


def check_sections(config: ConfigDict) -> None:
    """Checks the values that only these experiments can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk")
    sizes = ("width", "num_layers", "projection", "wavelet_order", "stencil_order")
    require_at_least_one(config.model, "config.model", *sizes)
    counts = ("points", "stored", "kept", "num_train", "num_valid", "num_test")
    require_at_least_one(config.data, "config.data", *counts)
    if not 0 <= config.model.damping < 1:
        raise ValueError(f"config.model.damping={config.model.damping}: expected 0 <= damping < 1")
