"""The fields that every config has: what the loop reads, with defaults and ranges."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from common.errors import UserError, nearest, shown
from common.papers import builder_folder, builders, papers
from common.values import flatten, is_plain

# How a step gets its gradient: the names are in `common.gradients`, which reads these fields.
GRADIENT: dict[str, Any] = {
    "name": "plain",  # or "sam", "masked", ..., also several: "sam+accumulated"
    # sam: how far it climbs, and how that changes over training. Outside of the shares `start` to
    # `stop` of all steps, and wherever it is 0, the gradient is plain, at the price of a plain one.
    "rho": 0.05,
    "rho_schedule": "constant",  # or "linear", "cosine": down to rho_final_fraction of it
    "rho_final_fraction": 0.0,
    "rho_warmup_steps": 0,  # from 0 linearly up to rho
    "rho_per_rate": 0.0,  # > 0: in place of rho, this times the learning rate of the step
    "start": 0.0,
    "stop": 1.0,
    # sam: how it climbs
    "ascent_steps": 1,
    "ascent_size": 1.0,  # of a step, in radii
    "normalize": True,  # False: rho times the gradient, whatever its length
    "adaptive": False,  # ASAM: the ball is one of delta / (|w| + eta)
    "eta": 0.01,
    "perturbed": "",  # regex of the parameters that move; "": all
    "m": 0,  # rows of a group that climbs by itself; 0: the batch
    "decay_in_ascent": False,  # whether the L2 term of optimizer.weight_decay is climbed as well
    # Climb along the gradient of the step before, at its parameters; with name="sam_before" along
    # that of its batch, at the parameters of now.
    "previous_batch": False,
    "statistics": "first",  # passes that renew running statistics: or "second", "both", "none"
    "diagnostics": False,  # metrics sam_rho, sam_norm, sam_norm_ahead, sam_cosine, sam_sharpness
    "paths": "",  # masked: regex of the parameters that are trained
    "parts": 0,  # accumulated: pieces of the batch, one in memory at a time
}

# Fields that came after runs were made. While they have these values they are left out of the hash,
# so that the runs of before keep theirs; hence a value here never changes.
LATER_DEFAULTS: dict[str, Any] = {
    "gradient": GRADIENT,
    "init_from_names": (),  # (regex, name) or (regex, name, axes): what the names there are here
}

LOOP_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "num_steps": 0,  # every config sets it
    "steps_per_call": 1,  # steps inside one lax.scan; a part of what is bitwise reproducible
    "log_every": 100,
    "eval_every": 0,  # 0: once, at the end
    "checkpoint_every": 0,  # 0: at the end and whenever the best changes
    "keep": 2,  # newest checkpoints kept, besides the best one
    "best_metric": "",  # "valid_accuracy"; "-valid_loss": lower is better
    "mesh": {"data": -1},  # axis sizes, axes in alphabetical order; -1: all devices left
    "deterministic": False,  # the same bits on any device count that divides logical_shards
    "logical_shards": 8,
    "x64": False,
    "seed_group": 1,  # seeds trained together under vmap
    "init_from": "",  # run folder, or file, whose weights start this run (`loop.warm_start`)
    "config_dir": "",  # filled in: folder of the config file, for builders named "file.py:function"
    **LATER_DEFAULTS,
}

MAX_SEED = 2**32 - 1  # jax.random.key takes larger ones modulo 2**32
MAX_COUNT = 2**31 - 1  # programs count steps in 32 bits
MAX_GROUP = 1024  # seeds; each is a whole experiment

# What neither changes the numbers of a run nor says which run it is.
NOT_HASHED = ("seed", "mesh", "log_every", "checkpoint_every", "keep", "config_dir")


def fill_defaults(config: ConfigDict, folder: Path) -> None:
    """Adds the fields of the loop that a config, or a section of it, does not set."""
    with config.unlocked():
        for key, value in LOOP_DEFAULTS.items():
            if key not in config:
                config[key] = ConfigDict(value) if isinstance(value, dict) else value
            elif isinstance(config[key], ConfigDict) and key != "mesh":
                for field in value.keys() - config[key].keys():
                    config[key][field] = value[field]
        config.config_dir = str(folder)


def validate(config: ConfigDict) -> None:
    """Checks the fields of the loop, as far as no device is needed.

    Raises:
        UserError: For the first field that is out of range.
    """
    check_types(config)
    sizes = ("num_steps", "steps_per_call", "log_every", "logical_shards", "seed_group", "keep")
    for name in sizes:
        _require(config[name] >= 1, name, config[name], "an integer of at least 1")
    for name in ("eval_every", "checkpoint_every"):
        _require(config[name] >= 0, name, config[name], "an integer of at least 0")
    for name in (*sizes, "eval_every", "checkpoint_every"):
        most = MAX_GROUP if name == "seed_group" else MAX_COUNT
        _require(config[name] <= most, name, config[name], f"an integer of at most {most}")
    if type(config.get("batch_size")) is int:
        allowed = f"an integer from 1 to {MAX_COUNT}"
        _require(1 <= config.batch_size <= MAX_COUNT, "batch_size", config.batch_size, allowed)
    ok = 0 <= config.seed <= MAX_SEED + 1 - config.seed_group
    _require(ok, "seed", config.seed, f"an integer from 0 to {MAX_SEED}, seed_group included")
    for name in ("num_steps", "eval_every", "checkpoint_every"):
        k = config.steps_per_call
        allowed = f"a multiple of steps_per_call={k}"
        _require(config[name] % k == 0, name, config[name], allowed)
    mesh = dict(config.mesh)
    ok = all(type(size) is int and (size >= 1 or size == -1) for size in mesh.values())
    ok = ok and list(mesh.values()).count(-1) <= 1 and bool(mesh)
    _require(ok, "mesh", mesh, "axis sizes of at least 1, at most one of them -1")
    if config.deterministic or "ordered" in config.gradient.name.split("+"):
        reason = "deterministic=True" if config.deterministic else "gradient.name has 'ordered'"
        # Under vmap XLA compiles Adam in other ways for other meshes.
        ok = config.seed_group == 1
        _require(ok, "seed_group", config.seed_group, f"1 ({reason})")
        size, shards = config.get("batch_size", 0), config.logical_shards
        allowed = f"a multiple of logical_shards={shards} ({reason})"
        _require(size % shards == 0, "batch_size", size, allowed)
    if builder_folder(config.experiment, config.config_dir) is None:
        known = (f"{paper.name}:" for paper in papers())
        hint = nearest(config.experiment.rpartition(":")[0] + ":", known)
        allowed = f'"topic.paper:builder" or "file.py:function" beside the config file{hint}'
        _require(False, "experiment", config.experiment, allowed)
    name, known = (
        config.experiment.rpartition(":")[2],
        builders(config.experiment, config.config_dir),
    )
    if known is not None and name not in known:
        hint = nearest(name, known)
        raise UserError(f"config.experiment={config.experiment!r}: no builder {name!r}{hint}")


def check_types(config: ConfigDict) -> None:
    """Checks that all fields are plain data, and those of the loop of the type of their default.

    Raises:
        UserError: For the first field that is not.
    """
    for name, value in flatten(config).items():
        allowed = "plain data: numbers of 64 bits, strings, tuples of them"
        _require(is_plain(value), name, value, allowed)
    if not isinstance(config.get("experiment"), str):
        raise UserError('config.experiment is missing: name a builder, "topic.paper:builder"')
    for name, default in LOOP_DEFAULTS.items():
        value = config[name]
        is_section = isinstance(default, dict) and isinstance(value, ConfigDict | Mapping)
        if not is_section:
            _check_type(name, value, default)
        elif name != "mesh":
            for field in value:
                if field not in default:
                    hint, allowed = nearest(field, default), ", ".join(default)
                    raise UserError(
                        f"config.{name}.{field}: no such field{hint}; allowed: {allowed}"
                    )
                _check_type(f"{name}.{field}", value[field], default[field])


def _check_type(name: str, value: Any, default: Any) -> None:
    ok = type(value) is type(default)
    _require(ok, name, value, f"a value of type {type(default).__name__}")


def _require(ok: bool, name: str, value: Any, allowed: str) -> None:
    if not ok:
        raise UserError(f"config.{name}={shown(value)}: expected {allowed}")
