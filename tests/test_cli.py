"""The command line: every mistake is one line that says what, where and what instead."""

import errno
import json
import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

from common import papers
from common.lab import cli
from tests.commands import Command, Finished, run_commands
from tests.mistakes import MORE, TINY, TRAIN, Mistake
from tests.processes import REPOSITORY, Child

INR = "nfn/equivariant/configs/inr_classification.py"

DAMAGED = {
    f"fashion_mnist/{part}-{kind}-ubyte": "damaged"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
}


# JAX is imported once in the process that makes these mistakes: all with the same devices.
TRAIN_ON_2 = (*TRAIN, "--devices=2")
MISTAKES = {
    # The command line itself.
    "unknown verb": Mistake(("trian",), ("trian", 'did you mean "train"')),
    "unknown second verb": Mistake(("runs", "lst"), ("lst", 'did you mean "list"')),
    "no second verb": Mistake(("data",), ("list, fetch, verify",)),
    "unknown flag": Mistake((*TRAIN, "--workdri=x"), ("--workdri", 'did you mean "workdir"')),
    "missing flag": Mistake(("train",), ("--config is missing",)),
    "flag of the wrong type": Mistake((*TRAIN, "--jobs=two"), ("--jobs='two'", "an integer")),
    "flag out of range": Mistake((*TRAIN, "--devices=-1"), ("--devices='-1'", "at least 0")),
    "too many words": Mistake(("report", "papers"), ("no words", "papers")),
    "too few words": Mistake(("table", "nfn.equivariant"), ("PAPER TABLE", "nfn.equivariant")),
    "override without value": Mistake((*TRAIN, "--config.seed"), ("--config.seed=VALUE",)),
    # The config file.
    "missing config file": Mistake(
        ("train", "--config=tests/tiny/confg.py"), ("confg.py", "config.py", "did you mean")
    ),
    "config that is not Python": Mistake(
        ("train", "--config=pyproject.toml"), ("pyproject.toml", "(.py)")
    ),
    "config without get_config": Mistake(
        ("train", "--config={tmp}/empty.py"), ("empty.py", "get_config"), files={"empty.py": ""}
    ),
    "config with a syntax error": Mistake(
        ("train", "--config={tmp}/torn.py"), ("torn.py", "line 1"), files={"torn.py": "def f(:"}
    ),
    "unknown preset": Mistake(("train", f"--config={TINY}:cpx"), ("'cpx'", "allowed: cpu")),
    "unknown argument": Mistake(
        ("train", f"--config={INR}:cpu,datset=mnist"), ("'datset'", 'did you mean "dataset"')
    ),
    # Its fields.
    "unknown field": Mistake((*TRAIN, "--config.num_step=3"), ('did you mean "num_steps"',)),
    "unknown nested field": Mistake(
        (*TRAIN, "--config.optimizer.learning_rat", "0.1"), ('did you mean "learning_rate"',)
    ),
    "field of a value": Mistake((*TRAIN, "--config.seed.x=1"), ("'seed'", "has no field 'x'")),
    "section for a value": Mistake((*TRAIN, "--config.optimizer=adam"), ("learning_rate",)),
    "fraction for an integer": Mistake((*TRAIN, "--config.seed=1.5"), ("'1.5'", "an integer")),
    "word for a number": Mistake(
        (*TRAIN, "--config.optimizer.learning_rate=fast"), ("'fast'", "a number")
    ),
    "word for a truth value": Mistake((*TRAIN, "--config.x64=yes"), ("'yes'", "true or false")),
    "negative number of steps": Mistake(
        (*TRAIN, "--config.num_steps=-5"), ("config.num_steps=-5", "at least 1")
    ),
    "steps that are no whole calls": Mistake(
        (*TRAIN, "--config.steps_per_call=7"), ("num_steps=40", "multiple of steps_per_call=7")
    ),
    "mesh without a size": Mistake((*TRAIN, "--config.mesh={'data': 0}"), ("mesh", "at least 1")),
    "value the experiment refuses": Mistake(
        (*TRAIN, "--config.optimizer.learning_rate=-1"), ("learning_rate=-1", "at least 0")
    ),
    "batch that is no whole shards": Mistake(
        (*TRAIN, "--config.deterministic=true", "--config.batch_size=6"),
        ("batch_size=6", "multiple of logical_shards=8"),
    ),
    # Names of things.
    "unknown paper": Mistake(("table", "nfn.equivarant", "3"), ('did you mean "nfn.equivariant"',)),
    "unknown table": Mistake(("table", "nfn.equivariant", "33"), ("'33'", "tables: 1, 2, 3")),
    "unknown preset of a table": Mistake(
        ("table", "nfn.equivariant", "3", "--preset=cup"), ("'cup'", 'did you mean "cpu"')
    ),
    "unknown preset of all papers": Mistake(
        ("claims", "--preset=cup"), ("--preset='cup'", 'did you mean "cpu"', "allowed: ")
    ),
    "workdir that is not there": Mistake(
        ("runs", "verify", "--workdir={tmp}/none"), ("--workdir={tmp}/none", "no such folder")
    ),
    "no seeds": Mistake(
        ("table", "nfn.equivariant", "3", "--seeds=0"), ("--seeds='0'", "such as 5")
    ),
    "seeds that are words": Mistake(
        ("table", "nfn.equivariant", "3", "--seeds=all"), ("--seeds='all'", "such as 5")
    ),
    "unknown data set": Mistake(
        ("data", "fetch", "fashion_mnst"), ("fashion_mnst", 'did you mean "fashion_mnist"')
    ),
    "unknown topology": Mistake(
        ("compile", f"--config={TINY}:cpu", "--topology=v5x:4x4"), ("v5x:4x4", "v5e")
    ),
    "topology that does not exist": Mistake(
        ("compile", f"--config={TINY}:cpu", "--topology=v5e:32x32"), ("v5e:32x32", "16x16")
    ),
    "step that is no number": Mistake(
        ("eval", "--run={tmp}", "--step=newest"), ("--step='newest'", "best, last or")
    ),
    "unknown run": Mistake(("eval", "--run={tmp}/none"), ("{tmp}/none",)),
    "missing sweep file": Mistake((*TRAIN, "--sweep={tmp}/s.json"), ("{tmp}/s.json",)),
    "sweep over an unknown field": Mistake(
        (*TRAIN, "--sweep={tmp}/s.json", "--workdir={tmp}/runs"),
        ("num_step", 'did you mean "num_steps"'),
        files={"s.json": json.dumps({"grid": {"num_step": [1, 2]}})},
    ),
    "sweep that is not JSON": Mistake(
        (*TRAIN, "--sweep={tmp}/s.json"), ("{tmp}/s.json",), files={"s.json": "{'grid'"}
    ),
    # What only the machine can refuse.
    "damaged data": Mistake(
        ("data", "verify"),
        ("train-images-idx3-ubyte",),
        code=4,
        files=DAMAGED,
        env={"DATA_DIR": "{tmp}"},
    ),
    "training on damaged data": Mistake(
        (
            "train",
            f"--config={INR}:demo",
            "--prepare",
            "--config.data.source=DATA_DIR",
            "--devices=2",
        ),
        ("train-images-idx3-ubyte",),
        code=4,
        files=DAMAGED,
        env={"DATA_DIR": "{tmp}", "LAB_CACHE": "{tmp}/cache"},
        loads_jax=True,
    ),
    "table whose data nobody can fetch": Mistake(
        ("table", "landscape.visualizing", "published", "--out={tmp}/out"),
        ("table published", "no cifar10/lossless_subset.npz and 4 more", "DATA_DIR='{tmp}'"),
        code=5,
        env={"DATA_DIR": "{tmp}"},
    ),
    "mesh that does not divide the devices": Mistake(
        (*TRAIN_ON_2, "--workdir={tmp}/runs", "--config.mesh={'data': 3}"),
        ("mesh", "3", "2"),
        loads_jax=True,
    ),
    "batch that does not divide over the devices": Mistake(
        (*TRAIN_ON_2, "--workdir={tmp}/runs", "--config.batch_size=5"),
        ("5", "2"),
        loads_jax=True,
    ),
    "workdir that is a file": Mistake(
        (*TRAIN, "--workdir={tmp}/file"), ("{tmp}/file: is no folder",), 4, files={"file": ""}
    ),
    "workdir that cannot be written": Mistake(
        (*TRAIN_ON_2, "--workdir=/proc/lab"), ("/proc/lab",), 4, loads_jax=True
    ),
    "metric to keep the best by is unknown": Mistake(
        (*TRAIN_ON_2, "--workdir={tmp}/runs", "--config.best_metric=accuracy"),
        ("best_metric='accuracy'", "valid_error"),
        loads_jax=True,
    ),
    "diverging training": Mistake(
        (*TRAIN_ON_2, "--workdir={tmp}/runs", "--config.optimizer.learning_rate=1e30"),
        ("not finite at step", "learning_rate"),
        code=3,
        loads_jax=True,
    ),
    **MORE,
}
LIGHT = {name: mistake for name, mistake in MISTAKES.items() if not mistake.loads_jax}
HEAVY = {name: mistake for name, mistake in MISTAKES.items() if mistake.loads_jax}


def filled(text: str, folder: Path) -> str:
    return text.replace("{tmp}", str(folder))


def end_of(mistakes: Mapping[str, Mistake], folder: Path, *, jax: bool) -> dict[str, Finished]:
    """Makes the mistakes one after the other in a new process, each with files of its own.

    Args:
        mistakes: What to run.
        folder: Holds a folder for each mistake.
        jax: Whether JAX can be imported there.
    """
    commands = {}
    for number, (name, mistake) in enumerate(mistakes.items()):
        own = folder / str(number)
        own.mkdir()
        for file, content in mistake.files.items():
            (own / file).parent.mkdir(exist_ok=True)
            (own / file).write_text(content)
        env = {key: filled(value, own) for key, value in mistake.env.items()}
        commands[name] = Command([filled(word, own) for word in mistake.arguments], env)
    if jax:
        return run_commands(commands, folder)
    (folder / "jax.py").write_text("raise RuntimeError('jax was imported')")
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    return run_commands(commands, folder, env={"PYTHONPATH": path})


@pytest.fixture(scope="module")
def without_jax(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Finished], Path]:
    """How every mistake that needs no JAX ended, and three right commands that need none."""
    folder = tmp_path_factory.mktemp("without_jax")
    words = {"overview": (), "list": ("list",), "version": ("--version",)}
    right = {name: Mistake(arguments, ()) for name, arguments in words.items()}
    return end_of({**LIGHT, **right}, folder, jax=False), folder


@pytest.fixture(scope="module")
def with_jax(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Finished], Path]:
    """How every mistake ended that can only be seen with JAX."""
    folder = tmp_path_factory.mktemp("with_jax")
    return end_of(HEAVY, folder, jax=True), folder


@pytest.mark.parametrize("name", LIGHT)
def test_a_mistake_is_one_line_that_names_it(
    name: str, without_jax: tuple[dict[str, Finished], Path]
) -> None:
    ended, folder = without_jax

    assert ended[name].stderr.count("\n") == 1, ended[name].stderr
    assert_says(ended[name], MISTAKES[name], folder / str([*LIGHT].index(name)))


@pytest.mark.parametrize("name", HEAVY)
def test_a_mistake_that_only_the_machine_sees_is_one_line_that_names_it(
    name: str, with_jax: tuple[dict[str, Finished], Path]
) -> None:
    ended, folder = with_jax

    assert_says(ended[name], MISTAKES[name], folder / str([*HEAVY].index(name)))


def assert_says(ended: Finished, mistake: Mistake, folder: Path) -> None:
    lines = [line for line in ended.stderr.splitlines() if line.startswith("lab: ")]
    assert ended.code == mistake.code, ended.stderr
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("lab: error: ")
    assert "Traceback" not in ended.stderr
    for part in mistake.says:
        assert filled(part, folder) in lines[0]


def test_a_full_disk_is_one_line_and_costs_nothing_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    straight, full, fsync = tmp_path / "straight", tmp_path / "full", os.fsync

    def full_after_step_10(descriptor: int) -> None:
        if list(full.rglob("checkpoints/10")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_step_10)
        code = cli.main([*TRAIN, f"--workdir={full}"])
    printed = capfd.readouterr().err

    assert code == 4, printed
    errors = [line for line in printed.splitlines() if line.startswith("lab: ")]
    assert len(errors) == 1
    assert re.match(rf"lab: error: .*{full}.*No space left on device", errors[0])
    assert not list(full.rglob("result.json"))
    for workdir in (full, straight):
        assert cli.main([*TRAIN, f"--workdir={workdir}"]) == 0, capfd.readouterr().err
    metrics = [next(w.rglob("metrics.jsonl")).read_text() for w in (full, straight)]
    assert metrics[0] == metrics[1]


def test_training_again_says_complete_and_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TRAIN, f"--workdir={tmp_path}"]
    assert cli.main(arguments) == 0
    first = capfd.readouterr().out
    (run,) = tmp_path.glob("*/*/*/seed0")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}

    assert cli.main(arguments) == 0
    second = capfd.readouterr().out

    assert f"run folder: {run}" in second
    assert "already complete: step 40" in second
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    metrics = re.compile(r"valid_error (\S+)")
    assert metrics.findall(first) == metrics.findall(second) != []


def test_the_overview_and_others_need_no_jax(without_jax: tuple[dict[str, Finished], Path]) -> None:
    overview, listing, version = (without_jax[0][k] for k in ("overview", "list", "version"))

    assert (overview.code, listing.code, version.code) == (0, 0, 0)
    assert f"jax {metadata.version('jax')}" in version.stdout
    assert all(f"lab {verb}" in overview.stdout for verb in cli.VERBS)
    assert all(paper.name in listing.stdout for paper in papers.papers())
    assert INR in listing.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_example_of_a_verb_parses(verb: str) -> None:
    for example in cli.VERBS[verb].examples:
        assert_parses(example)


def test_every_command_in_the_documents_parses() -> None:
    files = [p for depth in ("", "*/", "*/*/") for p in REPOSITORY.glob(f"{depth}*.md")]
    files += [path for paper in papers.papers() for path in paper.configs.values()]
    commands = [
        line.strip().removeprefix("$ ").split("  ")[0]
        for path in files
        for line in path.read_text().splitlines()
        if re.match(r"\s*(\$ )?lab [a-z]", line)
    ]

    assert commands
    for command in commands:
        assert_parses(command)


def assert_parses(command: str) -> None:
    program, *words = command.split()
    name = next(name for name in cli.VERBS if words[: name.count(" ") + 1] == name.split())
    assert program == "lab"
    cli.parse(name, words[name.count(" ") + 1 :])


GENERATED = re.compile(r"<!-- lab (list.*?) -->\n(.*?)<!-- end -->", re.DOTALL)


def test_the_lists_in_the_documents_are_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for path in (*REPOSITORY.glob("*.md"), *(p.folder / "README.md" for p in papers.papers())):
        for command, block in GENERATED.findall(path.read_text()):
            assert cli.main(command.split()) == 0
            printed = f"{capsys.readouterr().out.rstrip()}\n"
            if os.environ.get("UPDATE_GOLDEN") == "1":
                head = f"<!-- lab {command} -->\n"
                path.write_text(path.read_text().replace(head + block, head + printed))
            elif block != printed:
                pytest.fail(f"{path.name}: `lab {command}` prints more; UPDATE_GOLDEN=1 writes it")
            found.append(command)

    assert {"list --markdown", "list --scores"} <= {*found}


@pytest.mark.aot
def test_a_model_too_large_for_the_chip_is_one_line_with_both_sizes(child: Child) -> None:
    too_large = ("--config.model.channels=8192", "--topology=v5e:16x16")

    done = child(["compile", f"--config={INR}:pod", *too_large])

    assert done.returncode == 3, done.stderr
    assert re.fullmatch(r"lab: error: .* needs .*[\d.]+ GiB.* has 15.75 GiB.*\n", done.stderr)


@pytest.mark.parametrize("form", [["--config.seed=3"], ["--config.seed", "3"]])
def test_both_forms_of_an_override_are_read_and_the_last_one_holds(form: list[str]) -> None:
    words, values, overrides = cli.parse(
        "train", ["--config=a.py:cpu", "--config.seed=1", *form, "--workdir", "here"]
    )

    assert (words, overrides) == ([], {"seed": "3"})
    assert (values["config"], values["workdir"]) == ("a.py:cpu", "here")


def test_an_error_of_ours_is_a_traceback_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**flags: object) -> None:
        raise KeyError("ours")

    monkeypatch.setitem(cli.VERBS, "list", cli.VERBS["list"]._replace(run=broken))

    assert cli.main(["list"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "this is a bug" in error
