"""The verbs of `lab` as data: words, flags, examples and help; no module of JAX is loaded."""

from collections.abc import Callable
from typing import NamedTuple

from common.lab import commands, table_commands
from common.lab.saved_runs import about_folder, about_run, topic_verbs
from common.verbs import Flag, RunVerb


class Verb(NamedTuple):
    """What `lab NAME` takes; `run` is called with its words, then its flags by name.

    Attributes:
        summary: One line for `lab --help`.
        run: The function of `common.lab.commands`.
        words: Names of the positional arguments, all required.
        word_for: Flag that may also be given as a word of its own: `lab eval RUN`.
        flags: Flags of this verb.
        needs: Names of the flags that must be given.
        takes_config: Also accept --config.FIELD=VALUE, passed as `overrides`.
        starts_jax: Also pass `start_jax`, and accept the flags that configure it.
        passes_on: Names of flags that the commands started by this verb get too; `run` is passed
            them as `passed_on`.
        examples: Whole command lines, shown by --help.
        notes: Text below them.
    """

    summary: str
    run: Callable[..., None]
    words: tuple[str, ...] = ()
    word_for: str = ""
    flags: tuple[Flag, ...] = ()
    needs: tuple[str, ...] = ()
    takes_config: bool = False
    starts_jax: bool = False
    passes_on: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    notes: str = ""

    def all_flags(self) -> tuple[Flag, ...]:
        """Returns its flags, those that configure JAX included."""
        return self.flags + (JAX_FLAGS if self.starts_jax else ())


CONFIG = Flag(
    "config", None, "config file and its argument: FILE.py:PRESET[,key=value]", is_path=True
)
WORKDIR = Flag("workdir", "runs", "folder of all runs", is_path=True)
RUN = Flag("run", None, "only this run folder", is_path=True, not_with=("workdir",))
PRESET = Flag("preset", "cpu", "cpu, paper, pod, or another preset of the config file")
JOBS = Flag("jobs", 0, "how many runs at once; 0: as many as measured best here", 0)
ALLOW_CHANGED_CODE = Flag(
    "allow_changed_code", False, "go on with a run that other code began; a warning names the files"
)
SAVED_RUN = (
    Flag("run", None, "run folder, or the start of its hash, below --workdir", is_path=True),
    Flag("step", "best", "best, last or the number of a checkpoint"),
    ALLOW_CHANGED_CODE,
    WORKDIR,
)
SEED = Flag("seed", -1, "of a seed group the seed; -1: the run has only one", -1)
FAILED_STARTS = Flag("failed_starts", False, "only runs that ended before their first step")
JAX_FLAGS = (
    Flag("devices", 0, "simulate this many CPU devices; 0: the devices that are there", 0, 512),
    Flag("compilation_cache", True, "keep compiled programs for the next start"),
)
RUNNING = ("seeds", "workdir", "jobs", "allow_changed_code")  # of a command that runs something
EXAMPLE = "nfn/equivariant/configs/inr_classification.py"
SWEEP_FILE = """\
A sweep file, JSON here, or TOML:

  {"grid": {"optimizer.learning_rate": [1e-3, 3e-4]},
   "zip": {"batch_size": [64, 32], "num_steps": [1000, 2000]},
   "seeds": [0, 1, 2]}

Every line of `zip` (lists of one length) with every point of `grid` and every seed: 12 runs. Each
of the three may be missing; seeds may be a number. "slurm": {...} holds options for --slurm."""


def _about_run(verb: RunVerb) -> Verb:
    """Returns a verb about a saved run that a topic brings along."""
    return Verb(
        verb.summary,
        about_run(verb) if verb.loads else about_folder(verb),
        flags=(*verb.flags, *((*SAVED_RUN, SEED) if verb.loads else (SAVED_RUN[0], WORKDIR))),
        needs=("run",),
        word_for="run",
        starts_jax=verb.loads,
        examples=verb.examples,
        notes=verb.notes,
    )


VERBS: dict[str, Verb] = {
    "list": Verb(
        "papers, experiments, tables, presets and the status of their claims",
        commands.list_papers,
        word_for="paper",
        flags=(
            Flag("paper", None, "only this paper"),
            Flag("markdown", False, "as the tables of WORKSPACE.md", not_with=("tables", "scores")),
            Flag("scores", False, "as the table of README.md", not_with=("tables",)),
            Flag("tables", False, 'only "PAPER TABLE" of each table, one a line'),
            Flag(
                "equations", False, "equations and algorithms, and the functions that compute them"
            ),
            Flag("parts", False, "all modules, and what each is about", not_with=("paper",)),
        ),
        examples=("lab list", "lab list nfn.equivariant --equations"),
    ),
    "new": Verb(
        "write the skeleton of a paper folder: small, running, to be replaced piece by piece",
        commands.new,
        words=("TOPIC.PAPER",),
        examples=("lab new landscape.sharpness",),
        notes='WORKSPACE.md, "Add a paper", goes on from there.',
    ),
    "train": Verb(
        "train one config, or continue it where it stopped",
        commands.train,
        flags=(
            CONFIG,
            WORKDIR,
            Flag("tensorboard", False, "also write TensorBoard event files"),
            Flag("wandb", False, "also log to Weights & Biases (extra: wandb)"),
            Flag(
                "sweep",
                None,
                "JSON or TOML file of grid, zip and seeds: train every member",
                is_path=True,
            ),
            Flag("slurm", False, "submit the sweep to Slurm (extra: slurm)", only_with=("sweep",)),
            JOBS._replace(only_with=("sweep",), not_with=("slurm",)),
            Flag(
                "prepare",
                False,
                "only make the data and cache them",
                not_with=("tensorboard", "wandb", "slurm", "jobs"),
            ),
            Flag(
                "distributed",
                False,
                "join the processes that LAB_COORDINATOR or a cluster names",
                not_with=("sweep",),
            ),
            ALLOW_CHANGED_CODE,
        ),
        needs=("config",),
        takes_config=True,
        starts_jax=True,
        examples=(
            f"lab train --config={EXAMPLE}:cpu --config.optimizer.learning_rate=3e-4",
            f"lab train --config={EXAMPLE}:cpu --config.seed 3 --workdir=/data/runs --tensorboard",
            f"lab train --config={EXAMPLE}:cpu --sweep=sweep.json --jobs=2",
        ),
        passes_on=("tensorboard", "wandb", "devices", "compilation_cache"),
        notes=SWEEP_FILE,
    ),
    "table": Verb(
        "run what a paper's table lacks, print paper against ours, write results",
        table_commands.table,
        words=("PAPER", "TABLE"),
        flags=(
            PRESET,
            Flag(
                "seeds", None, "how many seeds (5: 0 to 4), or a list (0,3); default: the table's"
            ),
            WORKDIR,
            Flag(
                "out",
                None,
                "folder for JSON, Markdown and PNG; default: the paper's results/ in the checkout, "
                "else results/PAPER/ here",
                is_path=True,
            ),
            JOBS,
            ALLOW_CHANGED_CODE,
            Flag(
                "rejudge",
                False,
                "run nothing: judge the committed cells again, write the pages",
                not_with=("check", *RUNNING),
            ),
            Flag(
                "check",
                False,
                "run nothing: compare with the published values; exit code 3 if they differ",
                not_with=("out", *RUNNING),
            ),
        ),
        examples=(
            "lab table nfn.equivariant 3",
            "lab table nfn.equivariant 3 --preset=demo",
            "lab table nfn.equivariant 3 --check",
        ),
    ),
    "claims": Verb(
        "what every claim of every paper came to",
        table_commands.claims,
        word_for="paper",
        flags=(
            Flag("paper", None, "only claims of this paper"),
            PRESET,
            Flag("kind", None, "only claims of this kind: paper, ours or check"),
            Flag("failing", False, "only claims that do not hold"),
            Flag("details", False, "every comparison with its numbers, and why a claim fails"),
            Flag("json", False, "as JSON"),
            Flag("run", False, "first run what is missing"),
            WORKDIR._replace(only_with=("run",)),
            JOBS._replace(only_with=("run",)),
        ),
        examples=(
            "lab claims",
            "lab claims sciml.boon",
            "lab claims --kind=paper --failing --details",
            "lab claims --run",
        ),
    ),
    "eval": Verb(
        "evaluate a saved run again",
        commands.evaluate,
        flags=SAVED_RUN,
        needs=("run",),
        word_for="run",
        starts_jax=True,
        examples=(
            "lab eval runs/nfn.equivariant/inr_classification/0123456789ab/seed0",
            "lab eval 0123456789ab --step=last",
        ),
    ),
    "export": Verb(
        "write the weights of a saved run to a file that others read",
        commands.export,
        flags=(
            Flag("to", None, "file to write; .safetensors or .npz says how", is_path=True),
            *SAVED_RUN,
            SEED,
            Flag("overwrite", False, "replace a file that is there"),
        ),
        needs=("run", "to"),
        word_for="run",
        starts_jax=True,
        examples=(
            "lab export 0123456789ab --to=weights.safetensors",
            "lab export 0123456789ab --to=weights.npz --step=last --overwrite",
        ),
    ),
    **{name: _about_run(verb) for name, verb in topic_verbs().items()},
    "runs list": Verb(
        "the runs below --workdir",
        commands.runs_list,
        flags=(
            WORKDIR,
            FAILED_STARTS,
            Flag("metrics", False, "all metrics of every run", not_with=("failed_starts",)),
        ),
    ),
    "runs compare": Verb(
        "config and metrics in which two runs differ",
        commands.runs_compare,
        words=("A", "B"),
        flags=(WORKDIR,),
        examples=("lab runs compare 0123456789ab/seed0 ba9876543210/seed0",),
    ),
    "runs verify": Verb(
        "check every checkpoint against its checksums",
        commands.runs_verify,
        flags=(WORKDIR, RUN),
    ),
    "runs prune": Verb(
        "remove checkpoints but the newest and the best, or runs that never made a step",
        commands.runs_prune,
        flags=(
            WORKDIR,
            RUN,
            Flag("keep", 1, "newest", 1, not_with=("failed_starts",)),
            Flag("dry_run", False, "only say what would be removed"),
            FAILED_STARTS._replace(help="remove the folders of runs without any step"),
        ),
        examples=("lab runs prune --dry-run", "lab runs prune --failed-starts"),
    ),
    "compile": Verb(
        "compile for TPUs, GPUs or simulated devices; report memory, FLOPs, collectives",
        commands.compile_step,
        flags=(
            CONFIG,
            Flag(
                "topology",
                None,
                "v5e:16x16, 2xv5e:16x16, h100:8, or cpu:8 simulated; default: the devices here",
                not_with=("devices",),
            ),
            Flag("quick", False, "optimize less: several times faster, memory is a bound"),
            Flag("evaluate", False, "compile evaluation and measures too"),
            Flag("json", False, "print JSON"),
        ),
        needs=("config",),
        takes_config=True,
        starts_jax=True,
        examples=(f"lab compile --config={EXAMPLE}:pod --topology=v5e:16x16",),
    ),
    "data list": Verb("image sets, and where this machine has them", commands.data_list),
    "data fetch": Verb(
        "download one image set, resuming, and check it", commands.data_fetch, words=("NAME",)
    ),
    "data verify": Verb("check every image set found against its checksums", commands.data_verify),
    "report": Verb(
        "one HTML page of everything measured",
        commands.report,
        flags=(
            WORKDIR,
            Flag(
                "results",
                None,
                "folder with table results; default: those of all papers",
                is_path=True,
            ),
            Flag("out", "report.html", "file to write", is_path=True),
        ),
    ),
}


def overview() -> str:
    """Returns what `lab --help` prints."""
    width = max(map(len, VERBS))
    rows = [f"  lab {name:{width}}  {verb.summary}" for name, verb in VERBS.items()]
    more = (
        "\n\nFlags and examples of one: lab VERB --help. LAB_TRACEBACK=1 shows where errors arise."
    )
    return "lab: papers on deep learning, reproduced in JAX.\n\n" + "\n".join(rows) + more


def usage(name: str) -> str:
    """Returns what `lab NAME --help` prints."""
    verb = VERBS[name]
    words = [*verb.words, *([f"[{verb.word_for.upper()}]"] if verb.word_for else [])]
    lines = [f"lab {' '.join([name, *words])}: {verb.summary}"]
    rows = [(_shown(flag), flag.help) for flag in verb.all_flags()]
    if verb.takes_config:
        rows.insert(1, ("--config.FIELD=VALUE", "replace a field, such as --config.seed=3"))
    width = max((len(left) for left, _ in rows), default=0)
    lines += [""] * bool(rows) + [f"  {left:{width}}  {right}" for left, right in rows]
    lines += [""] * bool(verb.examples) + [f"  {example}" for example in verb.examples]
    lines += ["", verb.notes] if verb.notes else []
    return "\n".join(lines)


def _shown(flag: Flag) -> str:
    name = flag.name.replace("_", "-")
    if isinstance(flag.default, bool):
        return f"--[no]{name}" if flag.default else f"--{name}"
    return f"--{name}={flag.name.upper() if flag.default is None else flag.default}"
