"""Tables: aggregation, claims judged by hand, sharing of runs, resuming, rendering again."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from common import papers, table_runner
from common.errors import Interrupted, UserError
from common.status import claims_text, list_markdown, list_text, table_rows
from common.table_render import grid, measured, render, render_text
from common.table_results import metric_value
from common.tables import (
    Aggregate,
    Cell,
    NotMeasured,
    Results,
    Table,
    Verdict,
    above,
    aggregate,
    all_of,
    below,
    check_table,
    evaluate_claims,
    near,
    paired_two_stderr_above,
    paired_two_stderr_below,
    two_stderr_above,
    two_stderr_below,
    unchanged,
)

LAB = (sys.executable, str(Path(__file__).parent / "fake_lab.py"))

CONFIG = '''"""Fake. Presets: cpu (a | b), paper (not run)."""
from ml_collections import ConfigDict
from common.config import parse_arg

def get_config(arg=None):
    args = parse_arg(arg, preset="cpu")
    config = ConfigDict(dict(experiment="experiment.py:fake", kind="a", data=dict(size=4)))
    config.num_steps = 10 if args["preset"] == "cpu" else 1000
    return config
'''

TABLES = '''"""Tables of a fake paper."""
from common.tables import Cell, Paper, Table, above, paired_two_stderr_above, two_stderr_above

def count(config):
    return {"weights": 1234 + config.seed}

def draw(data, run_dirs, out_path):
    assert run_dirs["B", "acc"][0].name == "seed0"
    out_path.write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + data["title"].encode())

def b_beats_a(t):
    """B beats A by two standard errors."""
    return two_stderr_above(t["B", "acc"], t["A", "acc"])

def a_is_large(t):
    """A is above 90 <percent>."""
    return above(t["A", "acc"], 90)

TABLE = Table(
    name="1", title="A & B", source="Doe (2020), Table 1", config=CONFIG_PATH,
    cells=(
        Cell("A", "acc", {"kind": "a"}, "accuracy", Paper(90.5, 0.25, "Table 1")),
        Cell("A", "loss", {"kind": "a"}, "last/loss"),
        Cell("B", "acc", {"kind": "b"}, "accuracy"),
        Cell("B", "weights", {"kind": "b"}, "weights", run="faketopic.fakepaper.tables:count"),
    ),
    seeds=(0, 1), claims=(b_beats_a, a_is_large), unit="%", scale=100.0,
    paper_spread="standard error | 3 runs", notes=("a note",),
    figures="faketopic.fakepaper.tables:draw",
    reasons={"a_is_large": "too few | steps", "b_beats_a": "never shown"},
)
TABLES = {"1": TABLE}
'''


def write_paper(folder: Path) -> papers.PaperInfo:
    """A paper outside the tree: importable here and in child processes if `folder` is a path."""
    paper = folder / "faketopic" / "fakepaper"
    (paper / "configs").mkdir(parents=True)
    config = paper / "configs" / "fake.py"
    config.write_text(CONFIG)
    (paper / "configs" / "experiment.py").write_text('"""Never called."""\n')
    (paper / "tables.py").write_text(TABLES.replace("CONFIG_PATH", repr(str(config))))
    return papers.PaperInfo("faketopic.fakepaper", "A fake paper", paper, {"fake": config})


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.syspath_prepend(folder)
    patch.setenv("PYTHONPATH", str(folder))
    for name in [name for name in sys.modules if name.startswith("faketopic")]:
        patch.delitem(sys.modules, name)


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> papers.PaperInfo:
    enter(tmp_path / "source", monkeypatch)
    return write_paper(tmp_path / "source")


class Done(NamedTuple):
    """A table that was run once, for tests that only read it."""

    root: Path
    paper: papers.PaperInfo
    result: table_runner.Measured


@pytest.fixture(scope="module")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> Done:
    root = tmp_path_factory.mktemp("table")
    with pytest.MonkeyPatch.context() as patch:
        enter(root / "source", patch)
        paper = write_paper(root / "source")
        return Done(root, paper, run(paper, root, out=None))


@pytest.fixture
def done(measured_once: Done, monkeypatch: pytest.MonkeyPatch) -> Done:
    enter(measured_once.root / "source", monkeypatch)
    return measured_once


def run(paper: papers.PaperInfo, tmp_path: Path, **changes: Any) -> table_runner.Measured:
    options: dict[str, Any] = {
        "workdir": tmp_path / "runs",
        "out": tmp_path / "out",
        "lab": LAB,
        **changes,
    }
    return table_runner.run_table(paper, "1", **options)


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "runs" / "calls"
    lines = sorted(path.read_text().splitlines()) if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def edit_table(paper: papers.PaperInfo, old: str, new: str) -> None:
    path = paper.folder / "tables.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    sys.modules.pop("faketopic.fakepaper.tables", None)


def seeds(*values: float) -> Aggregate:
    return aggregate(dict(enumerate(values)), "x, y")


def test_aggregation_is_that_of_numpy() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=7)

    a = aggregate(dict(enumerate(values.tolist())))

    assert a.n == 7
    assert a.mean == pytest.approx(np.mean(values), rel=1e-14)
    assert a.std == pytest.approx(np.std(values, ddof=1), rel=1e-14)
    assert a.stderr == pytest.approx(np.std(values, ddof=1) / np.sqrt(7), rel=1e-14)


def test_one_seed_has_a_mean_and_no_spread() -> None:
    a = aggregate({3: 1.5})

    assert (a.mean, a.std, a.stderr, a.n) == (1.5, None, None, 1)
    with pytest.raises(NotMeasured, match="needs two seeds, got 1"):
        two_stderr_above(a, seeds(1.0, 2.0))


def test_two_standard_errors_worked_by_hand() -> None:
    # stderr of (0, 2) is sqrt(2) / sqrt(2) = 1; of (9, 11) too: the margin is 2 sqrt(2) = 2.828...
    low, margin = seeds(0.0, 2.0), 2 * math.sqrt(2)

    for shift, holds in ((margin + 1e-9, True), (margin - 1e-9, False)):
        high = seeds(0.0 + shift, 2.0 + shift)
        assert two_stderr_above(high, low).holds == holds
        assert two_stderr_below(low, high).holds == holds
        assert not two_stderr_above(low, high).holds
    assert "2 SE 2.828" in two_stderr_above(low, low).detail


def test_pairing_by_seed_removes_what_the_seed_does_to_both() -> None:
    noise = np.array([0.0, 50.0, -30.0])
    a, b = seeds(*(noise + np.array([1.0, 1.1, 0.9]))), seeds(*noise)  # differences: 1, 1.1, 0.9

    assert not two_stderr_above(a, b).holds
    assert paired_two_stderr_above(a, b).holds
    assert paired_two_stderr_below(b, a).holds
    # 2 stderr of (1, 1.1, 0.9) = 2 * 0.1 / sqrt(3) = 0.11547
    assert "2 SE, paired by seed 0.1155" in paired_two_stderr_above(a, b).detail
    with pytest.raises(NotMeasured, match="seeds"):
        paired_two_stderr_above(a, aggregate({0: 1.0, 1: 2.0, 5: 3.0}, "z"))


def test_simple_predicates_at_their_edges() -> None:
    a = seeds(1.0, 3.0)

    assert above(a, 1.99).holds
    assert not above(a, 2.0).holds
    assert below(a, 2.01).holds
    assert not below(a, 2.0).holds
    assert near(a, 2.5, 0.5).holds
    assert not near(a, 2.5, 0.49).holds
    assert unchanged(a, seeds(1.0, 3.5), 0.5).holds
    assert not unchanged(a, seeds(3.0, 1.0)).holds  # same mean, other seeds


def test_a_verdict_is_true_only_if_it_holds() -> None:
    good, bad = Verdict(True, "3 > 2"), Verdict(False, "1 > 2")

    assert not (bad and good)
    assert (good and bad) is bad
    assert all_of(good, good).holds
    assert all_of(good, bad) == Verdict(False, "3 > 2; [fails] 1 > 2")


def test_a_claim_is_not_judged_on_the_seeds_that_survived() -> None:
    results = Results({("a", "b"): aggregate({0: 1.0}), ("c", "d"): aggregate({})}, (0, 1))

    with pytest.raises(NotMeasured, match="a, b: no value for seed 1"):
        results["a", "b"]
    with pytest.raises(NotMeasured, match="seed 0, 1"):
        results["c", "d"]
    with pytest.raises(KeyError, match="no cell"):
        results["a", "d"]


def test_metrics_come_from_the_best_checkpoint_unless_asked_otherwise() -> None:
    result = {"metrics": {"last": {"accuracy": 1.0, "nan": math.nan}, "best": {"accuracy": 2.0}}}

    assert metric_value("accuracy", result) == 2.0
    assert metric_value("last/accuracy", result) == 1.0
    assert metric_value("accuracy", {"metrics": {"last": {"accuracy": 3.0}}}) == 3.0
    with pytest.raises(ValueError, match=r'accuracy\?.*did you mean "accuracy"|did you mean "acc'):
        metric_value("acuracy", result)
    with pytest.raises(ValueError, match="metric nan is nan"):
        metric_value("last/nan", result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": ()}, "no cells"),
        ({"seeds": ()}, "no seeds"),
        ({"seeds": (1, 1)}, "seed twice"),
        ({"cells": (Cell("a", "b", {}, "m"), Cell("a", "b", {}, "n"))}, "cell twice"),
        ({"claims": (lambda t: t,)}, "without a docstring"),
        ({"reasons": {"other": "x"}}, "unknown claims"),
    ],
)
def test_a_malformed_table_is_refused(change: dict, message: str) -> None:
    table = Table("1", "t", "s", "c.py", (Cell("a", "b", {}, "m"),), (0,))
    check_table(table)

    with pytest.raises(ValueError, match=message):
        check_table(table._replace(**change))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.5,), "0.5000"),
        ((90.0, 92.0), "91.0 ± 1.4"),
        ((0.9123, 0.9125), "0.91240 ± 0.00014"),
        ((1e-5, 3e-5), "(2.0 ± 1.4)e-05"),
        ((12345.0, 12345.0), "12,345 ± 0"),
        ((1000.0, 3000.0), "2000 ± 1414"),
        ((-1.0, 1.0), "0.0 ± 1.4"),
        ((1e-12 + 5.0, 5.0), "5.00000 ± 0.00000"),
    ],
)
def test_two_digits_of_the_deviation_decide_the_decimals(values: tuple, text: str) -> None:
    assert measured(seeds(*values)) == text


def test_a_table_runs_each_configuration_once_and_then_nothing(done: Done) -> None:
    trained = calls(done.root)
    again = run(done.paper, done.root, out=None)

    # Two cells of kind a share their runs; one preparation, since both kinds have the same data.
    cores = len(os.sched_getaffinity(0))
    assert [line.rpartition(" ")[0] for line in trained if line.startswith("train")] == [
        "train a 0",
        "train a 1",
        "train b 0",
        "train b 1",
    ]
    assert [line for line in trained if line.startswith("prepare")] == [f"prepare a 0 {cores}"]
    if cores > 1:  # two at a time, each on its own cores
        assert all(int(line.split()[-1]) < cores for line in trained if "train" in line)
    assert calls(done.root) == []
    assert again.data == done.result.data
    values = {(c["row"], c["column"]): c["values"] for c in again.data["cells"]}
    assert values["A", "acc"] == {"0": 0.10, "1": 0.11}
    assert values["A", "loss"] == {"0": 10.0, "1": 11.0}
    assert values["B", "weights"] == {"0": 1234.0, "1": 1235.0}


def test_files_say_what_was_measured_and_how(done: Done) -> None:
    result = done.result
    text = result.markdown_path.read_text()

    header, _, row_a, row_b = [line for line in text.splitlines() if line.startswith("|")][:4]
    assert header == "|  | acc, paper | acc, ours (n) | loss, ours (n) | weights, ours (n) |"
    # kind a: 10 and 11 percent: mean 10.5, std 0.7071; the loss is scaled like all of the table.
    assert row_a == "| A | 90.5 ± 0.25 | 10.50 ± 0.71 (2) | 1050 ± 71 (2) |  |"
    assert row_b.startswith("| B | – | 20.50 ± 0.71 (2) |  |")
    assert "- `num_steps` = `10` (paper: `1000`)" in text
    assert "✔ holds: B beats A by two standard errors." in text
    assert "✘ FAILS: A is above 90 \\<percent>. (A, acc 10.5" in text
    assert "Reason: too few | steps" in text
    assert "never shown" not in text
    assert "set: `fake images`" in text
    assert "`lab table faketopic.fakepaper 1 --preset=cpu`" in text
    assert "![A & B](table1.cpu.png)" in text
    assert result.figure_path is not None
    assert result.figure_path.read_bytes().endswith(b"A & B")
    assert all(run["config_hash"] in text for run in result.data["runs"])
    assert str(done.root) not in text


def test_markdown_is_rendered_again_from_json_byte_for_byte(done: Done) -> None:
    data = json.loads(done.result.json_path.read_text())

    assert render(data).encode() == done.result.markdown_path.read_bytes()
    outcomes = evaluate_claims(table_runner.find_table(done.paper, "1"), data)
    assert [o._asdict() for o in outcomes] == data["claims"]
    assert [o.status for o in outcomes] == ["holds", "fails"]
    text = render_text(data, width=120)
    assert "10.50 ± 0.71 (2)" in text
    assert "✘ FAILS" in text
    assert "\x1b" not in text
    assert "\x1b" in render_text(data, color=True)


def test_listings_show_committed_results_and_claims(
    done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(papers, "REPOSITORY", done.root)
    [row] = table_rows([done.paper])

    assert row.results.keys() == {"cpu"}
    assert "(cpu, paper)" in list_text([done.paper])
    assert "[cpu: ✔ 1 holds, ✘ 1 fails]" in list_text([done.paper])
    assert "faketopic/fakepaper/results/table1.cpu.md" in list_markdown([done.paper])
    assert "✘ FAILS: A is above 90" in claims_text("cpu", [done.paper])
    assert "no result is committed" in claims_text("paper", [done.paper])


def test_a_failed_cell_leaves_the_others_and_is_tried_again(
    paper: papers.PaperInfo, tmp_path: Path
) -> None:
    edit_table(paper, 'Cell("B", "acc", {"kind": "b"}', 'Cell("B", "acc", {"kind": "broken"}')

    result = run(paper, tmp_path)
    text = result.markdown_path.read_text()
    calls(tmp_path)
    again = run(paper, tmp_path)

    assert result.num_problems == 2
    assert grid(result.data).rows[1][2] == "failed"
    assert grid(result.data).rows[0][2] == "10.50 ± 0.71 (2)"
    claim = result.data["claims"][0]
    assert (claim["status"], claim["detail"]) == ("not run", "B, acc: no value for seed 0, 1")
    assert "B, acc, seed 0: exit code 3: lab: error: this kind is broken" in text
    assert result.figure_path is None
    repeated = [line for line in calls(tmp_path) if line.startswith("train")]
    assert [line.split()[1] for line in repeated] == ["broken", "broken"]
    assert again.num_problems == 2


def test_cells_whose_data_cannot_be_made_are_not_run(
    paper: papers.PaperInfo, tmp_path: Path
) -> None:
    edit_table(paper, 'Cell("B", "acc", {"kind": "b"}', 'Cell("B", "acc", {"data.size": 0}')

    result = run(paper, tmp_path, seeds=1)

    problems = result.data["cells"][2]["problems"]
    assert problems["0"].startswith("data could not be prepared: exit code 3: lab: error")
    assert len(result.data["cells"][0]["values"]) == 1
    assert [line.split()[:3] for line in calls(tmp_path) if line.startswith("train")] == [
        ["train", "a", "0"]
    ]


def test_more_seeds_run_only_the_new_ones(paper: papers.PaperInfo, tmp_path: Path) -> None:
    run(paper, tmp_path, seeds=1)
    calls(tmp_path)

    result = run(paper, tmp_path, seeds=(0, 4))

    trained = [line for line in calls(tmp_path) if line.startswith("train")]
    assert sorted(line.split()[2] for line in trained) == ["4", "4"]
    assert result.data["provenance"]["command"].endswith("--preset=cpu --seeds=0,4")
    assert result.data["cells"][0]["values"] == {"0": 0.10, "4": 0.14}


def test_a_seed_group_is_one_child_that_gives_every_seed(
    paper: papers.PaperInfo, tmp_path: Path
) -> None:
    edit_table(paper, 'Cell("A", "loss", {"kind": "a"}', 'Cell("A", "loss", {"seed_group": 2}')

    result = run(paper, tmp_path)

    assert result.data["cells"][1]["values"] == {"0": 10.0, "1": 11.0}
    # kind a alone (2 seeds), b alone (2 seeds), and the group as one call
    assert len([line for line in calls(tmp_path) if line.startswith("train")]) == 5
    times = {r["name"]: list(r["wall_time_s"].values()) for r in result.data["runs"]}
    assert times[result.data["cells"][1]["run"]] == [1.0, 1.0]
    with pytest.raises(UserError, match="successive"):
        run(paper, tmp_path, seeds=(0, 2))


def test_mistakes_are_named(paper: papers.PaperInfo, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no table '2'.*tables: 1"):
        table_runner.run_table(paper, "2", workdir=tmp_path)
    with pytest.raises(UserError, match="seeds"):
        run(paper, tmp_path, seeds=(1, 1))
    edit_table(paper, "b_beats_a, a_is_large)", "b_beats_a, b_beats_a)")
    with pytest.raises(ValueError, match="claim twice"):
        run(paper, tmp_path)


def test_an_unfinished_or_damaged_result_is_run_again(
    paper: papers.PaperInfo, tmp_path: Path
) -> None:
    run(paper, tmp_path, seeds=1)
    calls(tmp_path)
    first, second = sorted((tmp_path / "runs").rglob("result.json"))
    first.write_text("{")
    second.write_text(second.read_text().replace('"complete"', '"running"'))

    assert run(paper, tmp_path, seeds=1).num_problems == 0
    assert len([line for line in calls(tmp_path) if line.startswith("train")]) == 2


def test_a_signal_reaches_the_children_and_the_same_command_continues(
    paper: papers.PaperInfo, tmp_path: Path
) -> None:
    edit_table(paper, 'Cell("B", "acc", {"kind": "b"}', 'Cell("B", "acc", {"kind": "wait"}')
    code = (
        "import sys; from pathlib import Path; from common import papers, table_runner\n"
        "from common.errors import Interrupted\n"
        f"paper = papers.PaperInfo({paper.name!r}, '', Path({str(paper.folder)!r}), {{}})\n"
        "try:\n"
        f"    table_runner.run_table(paper, '1', workdir={str(tmp_path / 'runs')!r},"
        f" out={str(tmp_path / 'out')!r}, lab={LAB!r})\n"
        "except Interrupted as error:\n"
        "    print(error)\n"
        "    sys.exit(error.exit_code)\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{papers.REPOSITORY}:{os.environ['PYTHONPATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "runs" / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)

    assert process.returncode == Interrupted.exit_code
    assert "to continue: lab table faketopic.fakepaper 1 --preset=cpu" in out
    assert (tmp_path / "runs" / "saved").exists()
    assert not (tmp_path / "out").exists()
    (tmp_path / "runs" / "go").touch()
    assert run(paper, tmp_path).num_problems == 0
