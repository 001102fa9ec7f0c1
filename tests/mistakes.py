"""Wrong command lines: what a test makes of one, and those about flags, files and the contract."""

from collections.abc import Mapping
from typing import NamedTuple

TINY = "tests/tiny/config.py"
TRAIN = ("train", f"--config={TINY}:cpu")
OWN_CONFIG = """from ml_collections import ConfigDict

def get_config(arg=None):
    return ConfigDict(dict(experiment="experiment.py:own", num_steps=20))
"""
OWN = """import jax.numpy as jnp, numpy as np
from common.optim import make_optimizer
from common.steps import gradient_step, init_train_state
from tests.common.toys import *
X = np.ones(8, np.float32)
def sums(s, d, k): return sums_over(lambda r: r, {"x": d["x"], "y": d["x"][:6]}, chunk=4)
def own(config): return TOY._replace(CHANGE)
def loss(params, data, batch, key): return jnp.mean(params @ batch["x"]), {}
sgd = make_optimizer(num_steps=20, learning_rate=0.1, name="sgd")
TOY = Experiment(
    data=lambda: {"x": X},
    init=lambda key: init_train_state(jnp.zeros(8), sgd),
    step=gradient_step(loss, sgd),
    batch=lambda step: {"x": X},
    evaluate=lambda s, d, key: {"error": (s.params[0], 1.0)},
)
"""


class Mistake(NamedTuple):
    """A wrong command line; `{tmp}` in it is a folder of the test.

    Attributes:
        arguments: After `lab`.
        says: What the one line on stderr must contain: field, value, what is allowed.
        code: Exit code.
        files: Files to write first.
        env: Environment variables to set.
        loads_jax: Whether the mistake can only be seen with devices or data at hand.
    """

    arguments: tuple[str, ...]
    says: tuple[str, ...]
    code: int = 2
    files: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    loads_jax: bool = False


def own(change: str, *says: str) -> Mistake:
    """An experiment of the user's own with one thing wrong."""
    return Mistake(
        ("train", "--config={tmp}/config.py", "--workdir={tmp}/runs", "--devices=2"),
        ("experiment.py:own: ", *says),
        files={"config.py": OWN_CONFIG, "experiment.py": OWN.replace("CHANGE", change)},
        loads_jax=True,
    )


MORE = {
    "empty text": Mistake((*TRAIN, "--workdir="), ("--workdir=''", "folder of all runs")),
    "empty sweep": Mistake((*TRAIN, "--sweep="), ("--sweep=''", "JSON or TOML file")),
    "value for a flag that says no": Mistake(
        (*TRAIN, "--nocompilation_cache=1"), ("--nocompilation_cache=1", "not take an argument")
    ),
    "a flag that hides others": Mistake((*TRAIN, "--undefok=x", "--x=1"), ("--undefok",)),
    "number of thousands of digits": Mistake(
        (*TRAIN, f"--jobs={'9' * 5000}"), ("--jobs='999", "(5,002 characters)", "an integer")
    ),
    "too many devices": Mistake((*TRAIN, "--devices=10000000000"), ("--devices=", "at most 512")),
    # Flags that would do nothing.
    "Slurm without a sweep": Mistake((*TRAIN, "--slurm"), ("--slurm", "without --sweep")),
    "jobs without a sweep": Mistake((*TRAIN, "--jobs=2"), ("--jobs", "without --sweep")),
    "jobs on Slurm": Mistake(
        (*TRAIN, "--sweep=s.json", "--slurm", "--jobs=2"), ("--jobs and --slurm",)
    ),
    "logs of no training": Mistake((*TRAIN, "--prepare", "--wandb"), ("--prepare and --wandb",)),
    "a sweep in each process": Mistake(
        (*TRAIN, "--sweep=s.json", "--distributed"), ("--distributed and --sweep",)
    ),
    "topology and devices": Mistake(
        ("compile", f"--config={TINY}:cpu", "--topology=cpu:8", "--devices=2"),
        ("--topology and --devices",),
    ),
    "jobs of nothing": Mistake(("claims", "--jobs=2"), ("--jobs", "without --run")),
    "one run and all runs": Mistake(
        ("runs", "verify", "--workdir=runs", "--run=runs/x"), ("--run and --workdir",)
    ),
    "two forms of a list": Mistake(
        ("list", "--markdown", "--tables"), ("--markdown and --tables",)
    ),
    "sweep without a package": Mistake(
        (*TRAIN, "--wandb", "--sweep={tmp}/s.json"), ("--wandb needs the package wandb",)
    ),
    "processes that are not all named": Mistake(
        (*TRAIN, "--distributed"),
        ("LAB_NUM_PROCESSES, LAB_PROCESS_ID missing",),
        env={"LAB_COORDINATOR": "localhost:8476"},
    ),
    # Files.
    "experiment file with a syntax error": Mistake(
        ("train", "--config={tmp}/config.py"),
        ("experiment.py", "cannot be loaded", "line 1"),
        files={"config.py": OWN_CONFIG, "experiment.py": "def own(:"},
    ),
    "experiment without its builder": Mistake(
        ("train", "--config={tmp}/config.py"),
        ("no builder 'own'", 'did you mean "oven"'),
        files={"config.py": OWN_CONFIG, "experiment.py": "def oven(config): ..."},
    ),
    # Weights in files.
    "export in no known format": Mistake(
        ("export", "{tmp}", "--to={tmp}/w.pt"), ("{tmp}/w.pt: the suffix '.pt'", ".safetensors or")
    ),
    "export of no run": Mistake(("export", "{tmp}", "--to={tmp}/w.npz"), ("{tmp}: is no run",)),
    "export over a file": Mistake(
        ("export", "{tmp}", "--to={tmp}/w.npz"),
        ("{tmp}/w.npz: is there already; --overwrite",),
        files={"w.npz": ""},
    ),
    "export into no folder": Mistake(
        ("export", "{tmp}", "--to={tmp}/none/w.npz"), ("{tmp}/none: is no folder",), 4
    ),
    "weights that are not there": Mistake(
        (*TRAIN, "--workdir={tmp}/runs", "--config.init_from={tmp}/w.npz"),
        ("config.init_from='{tmp}/w.npz': ", "no such file"),
    ),
    "weights in a pickle": Mistake(
        (*TRAIN, "--workdir={tmp}/runs", "--config.init_from={tmp}/w.pt"),
        ("config.init_from='{tmp}/w.pt': ", "a run folder, or a file .safetensors or .npz"),
        files={"w.pt": ""},
    ),
    "damaged weights": Mistake(
        (*TRAIN, "--workdir={tmp}/runs", "--config.init_from={tmp}/w.safetensors"),
        ("config.init_from='{tmp}/w.safetensors': ", "is damaged, or no .safetensors file"),
        4,
        files={"w.safetensors": "damaged"},
    ),
    "names of no weights": Mistake(
        (*TRAIN, "--workdir={tmp}/runs", "--config.init_from_names=(('a', 'b'),)"),
        ("config.init_from_names does nothing without config.init_from",),
    ),
    "names that are no regex": Mistake(
        (*TRAIN, "--workdir={tmp}/runs", "--config.init_from_names=(('(', 'b'),)"),
        ("config.init_from_names[0]=('(', 'b'): missing )",),
    ),
    # The contract, before training.
    "smaller last batch": own("batch=lambda step: {'x': X[int(step == 7) :]}", "batch(7)['x']"),
    "batch of JAX": own("batch=lambda step: {'x': jnp.zeros(8)}", "not a NumPy array", "jax"),
    "mean for sums": own("evaluate=lambda s, d, key: {'e': s.params.sum()}", "'e'", "(sum, count)"),
    "metric called step": own("step=lambda s, d, b, key: (s, {'step': 1.0})", "'step'", "rename"),
    "another state": own("step=lambda s, d, b, key: (s.params, {})", "structure of the state"),
    "typo in a step": own("step=lambda s, d, b, key: (s.parms, {})", "parms", "line 7"),
    "missing field": own("batch=config.bach", "bach", "line 7"),
    "unknown field of an optimizer": Mistake(
        ("train", "--config={tmp}/config.py", "--workdir={tmp}/runs", "--devices=2"),
        ("config.optimizer.rate", "allowed: learning_rate, name"),
        files={
            "config.py": OWN_CONFIG,
            "experiment.py": OWN.replace(
                "CHANGE", "init=make_optimizer(num_steps=1, learning_rate=1, rate=1)"
            ),
        },
        loads_jax=True,
    ),
    "rows of two lengths": own("evaluate=sums", "x has 8, y has 6", "line 6"),
    "data of 64 bits": own("data=lambda: {'t': np.array([2**40])}", "data/t holds 1099511627776"),
}
