"""Running tables: shared runs, resuming, failures, signals, and rendering again from JSON."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common import papers
from common.errors import DataError, Interrupted, UserError
from common.lab import listing
from common.results import runner
from common.results.pages import grid, render, render_text
from common.results.table_files import read_table
from common.tables import evaluate_claims
from tests.common.fake_paper import CONFIG, enter, write_paper

LAB = (sys.executable, str(Path(__file__).parents[1] / "fake_lab.py"))


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> papers.PaperInfo:
    enter(tmp_path / "source", monkeypatch)
    return write_paper(tmp_path / "source")


class Done(NamedTuple):
    """A table that was run once, for tests that only read it."""

    root: Path
    paper: papers.PaperInfo
    result: runner.Measured


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


def run(paper: papers.PaperInfo, tmp_path: Path, **changes: Any) -> runner.Measured:
    usual: dict[str, Any] = {"workdir": tmp_path / "runs", "out": tmp_path / "out", "lab": LAB}
    return runner.run_table(paper, "1", **{**usual, **changes})


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "runs" / "calls"
    lines = sorted(path.read_text().splitlines()) if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def edit_table(paper: papers.PaperInfo, old: str, new: str) -> None:
    path = paper.folder / "tables" / "__init__.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    sys.modules.pop("faketopic.fakepaper.tables", None)


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


@pytest.mark.slow
def test_a_row_of_another_config_file_shares_the_runs_of_that_file(
    paper: papers.PaperInfo, tmp_path: Path
) -> None:
    other = paper.folder / "configs" / "other.py"
    other.write_text(CONFIG.replace("experiment.py:fake", "experiment.py:other"))
    row = f'Cell("C", "acc", {{"kind": "c"}}, "accuracy", config={str(other)!r}),'
    edit_table(paper, "    cells=(", f"    cells=({row}")

    first = run(paper, tmp_path, seeds=1)
    assert [line.split()[1] for line in calls(tmp_path) if "train" in line] == ["a", "b", "c"]
    edit_table(paper, '"accuracy", config=', '"last/loss", config=')
    again = run(paper, tmp_path, seeds=1)

    assert calls(tmp_path) == []
    (cell,) = [cell for cell in again.data["cells"] if cell["row"] == "C"]
    assert cell["values"] == {"0": 30.0}
    files = {entry["overrides"]["kind"]: entry.get("config") for entry in first.data["runs"]}
    assert files == {"a": None, "b": None, "c": str(other)}
    assert list((tmp_path / "runs").glob("configs/other/*/seed0/result.json"))


def test_a_row_may_be_a_variant_of_a_config_file(paper: papers.PaperInfo, tmp_path: Path) -> None:
    other = paper.folder / "configs" / "other.py"
    text = CONFIG.replace("experiment.py:fake", "experiment.py:other")
    other.write_text(
        text.replace('"paper")}', '"paper"), "kind": ("a", "b")}').replace(
            'kind="a", data', 'kind=args["kind"], data'
        )
    )
    row = f'Cell("C", "acc", {{}}, "accuracy", config={str(other)!r}, variant="kind=b"),'
    edit_table(paper, "    cells=(", f"    cells=({row}")

    data = run(paper, tmp_path, seeds=1).data

    (entry,) = [entry for entry in data["runs"] if ["C", "acc"] in entry["cells"]]
    assert entry["variant"] == "kind=b" and entry["overrides"] == {}
    assert "| C: acc | kind=b of " in render(data)
    (cell,) = [cell for cell in data["cells"] if cell["row"] == "C"]
    assert cell["values"] == {"0": 0.2}  # what kind b gives


def test_files_say_what_was_measured_and_how(done: Done) -> None:
    result = done.result
    text = result.markdown_path.read_text()

    numbers = text[text.index("## Numbers") :]
    header, _, row_a, row_b = [line for line in numbers.splitlines() if line.startswith("|")][:4]
    assert header == "|  | acc, paper | acc, ours | loss | weights |"
    # kind a: 10 and 11 percent: mean 10.5, std 0.7071; the loss is scaled like all of the table.
    assert row_a == "| A | 90.5 ± 0.25 | 10.50 ± 0.71 | 1050 ± 71 |  |"
    assert row_b.startswith("| B | – | 20.50 ± 0.71 |  |")
    assert "- `num_steps` = `10` (paper: `1000`)" in text
    assert "**B beats A by two standard errors.**" in text
    assert "paper: 1 ✔ · ours: 1 ✘" in text
    assert "| ✔ B beats A by two standard errors | ✔ +10 | 1 of 1 |" in text
    assert "| ✘ A is above 90 \\<percent> | ✘ | 0 of 1 |" in text
    assert "✘ A, acc 10.5 ± 0.71 (n=2), wanted > 90 [0/2 seeds]" in text
    assert "- **A is above 90 \\<percent>**: too few | steps" in text
    assert "never shown" not in text
    assert "set: `fake images`" in text
    assert "`lab table faketopic.fakepaper 1 --preset=cpu`" in text
    assert "![A & B](1.cpu.png)" in text
    assert result.figure_path is not None
    assert result.figure_path.read_bytes().endswith(b"A & B")
    assert all(run["config_hash"] in text for run in result.data["runs"])
    assert str(done.root) not in text


def test_markdown_is_rendered_again_from_json_byte_for_byte(done: Done) -> None:
    data = json.loads(done.result.json_path.read_text())

    assert "digest" in data and data == read_table(done.result.json_path)
    assert render(data).encode() == done.result.markdown_path.read_bytes()
    outcomes = evaluate_claims(runner.find_table(done.paper, "1"), data)
    assert json.loads(json.dumps([o.to_json() for o in outcomes])) == data["claims"]
    assert [o.status for o in outcomes] == ["holds", "fails"]
    text = render_text(data, width=120)
    assert "10.50 ± 0.71" in text
    assert "✘ A is above 90 <percent> (0 of 1)" in text
    assert "\x1b" not in text
    assert "\x1b" in render_text(data, color=True)


def test_scoreboards_show_what_is_of_the_published_size(
    done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(papers, "REPOSITORY", done.root)
    [row] = listing.table_rows([done.paper])
    marked = row._replace(table=row.table._replace(published_size="the published weights"))

    assert listing.scores_markdown([done.paper]).endswith(" – |\n")
    monkeypatch.setattr(listing, "table_rows", lambda _: [marked])
    text = "the published weights; paper: 1 ✔ · ours: 1 ✘"
    assert f"[1](source/faketopic/fakepaper/results/1.cpu.md): {text}" in listing.scores_markdown(
        [done.paper]
    )
    assert listing.list_markdown([done.paper]).endswith("| the published weights |\n")


def test_listings_show_committed_results_and_claims(
    done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(papers, "REPOSITORY", done.root)
    [row] = listing.table_rows([done.paper])

    assert row.results.keys() == {"cpu"}
    assert "(cpu, paper)" in listing.list_text([done.paper])
    assert "[cpu: paper: 1 ✔ · ours: 1 ✘]" in listing.list_text([done.paper])
    assert "faketopic/fakepaper/results/1.cpu.md" in listing.list_markdown([done.paper])
    everything = listing.claims_text("cpu", [done.paper], details=True)
    assert "✘ A is above 90 <percent> (0 of 1)" in everything
    assert "Why not: too few | steps" in everything
    assert "2 comparisons: 1 holds, 1 missed" in everything
    assert "B beats A" not in listing.claims_text("cpu", [done.paper], failing=True)
    assert "A is above" not in listing.claims_text("cpu", [done.paper], kind="paper")
    assert "no result is committed" in listing.claims_text("paper", [done.paper])
    (found,) = json.loads(listing.claims_json("cpu", [done.paper], kind="ours"))
    assert [c["name"] for c in found["claims"]] == ["a_is_large"]


def test_judging_again_writes_what_the_run_wrote(done: Done, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in done.result.json_path.parent.iterdir()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    data = json.loads(files["1.cpu.json"])
    old = {**data, "format": 1, "claims": [], "notes": ["old"]}
    del old["headline"], old["digest"]
    (tmp_path / "1.cpu.json").write_text(json.dumps(old))
    with pytest.raises(DataError, match=r"is of format 1, expected 2; .*1 --preset=cpu --rejudge"):
        read_table(tmp_path / "1.cpu.json")

    runner.rejudge_table(done.paper, "1", out=tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    with pytest.raises(UserError, match="--rejudge: there is no"):
        runner.rejudge_table(done.paper, "1", preset="paper", out=tmp_path)


@pytest.mark.slow
def test_a_table_says_before_it_starts_how_long_it_will_take(
    paper: papers.PaperInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(runner.logging, "info", lambda text, *args: said.append(text % args))
    run(paper, tmp_path, out=None)
    assert "6 of 6 runs to do" in said[0] and "nobody has measured" in said[0]
    path = paper.folder / "results" / "1.cpu.json"
    committed = json.loads(path.read_text())
    committed["provenance"]["cpu"] = "Abacus"
    del committed["digest"]
    for entry in committed["runs"]:  # 10 s for each seed of A, 100 s for B, 1000 s for a function
        entry["wall_time_s"] = dict.fromkeys(
            "01", 1000 if entry["function"] else {"a": 10, "b": 100}[entry["overrides"]["kind"]]
        )
    path.write_text(json.dumps(committed))
    said.clear()

    run(paper, tmp_path, seeds=(0, 1, 2), jobs=1, out=tmp_path / "out")

    assert said == [
        "table 1 at preset cpu: 3 of 9 runs to do; about 18 min 30 s on the machine of "
        "the committed ones (Abacus)"
    ]


def test_outside_the_checkout_results_are_written_to_the_current_folder(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert papers.results_folders(done.paper) == (done.paper.folder / "results",)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (done.paper.folder / "results").iterdir()}

    again = run(done.paper, done.root, seeds=1, out=None)

    assert again.json_path == tmp_path / "results" / "faketopic.fakepaper" / "1.cpu.json"
    assert {path: path.read_bytes() for path in before} == before
    [row] = listing.table_rows([done.paper])
    assert row.results == {"cpu": again.json_path}  # what was made here is what is listed


def test_a_failed_cell_leaves_the_others_and_is_tried_again(
    paper: papers.PaperInfo, tmp_path: Path
) -> None:
    edit_table(paper, 'Cell("B", "acc", {"kind": "b"}', 'Cell("B", "acc", {"kind": "broken"}')

    result = run(paper, tmp_path)
    text = result.markdown_path.read_text()
    calls(tmp_path)
    again = run(paper, tmp_path)

    assert result.num_problems == 2
    assert grid(result.data, "").rows[1][2] == "failed"
    assert grid(result.data, "").rows[0][2] == "10.50 ± 0.71"
    claim = result.data["claims"][0]
    assert (claim["status"], claim["problem"]) == ("not run", "B, acc: no value for seed 0, 1")
    assert "B, acc, seed 0: exit code 3: lab: error: this kind is broken" in text
    assert result.figure_path is None
    repeated = [line for line in calls(tmp_path) if line.startswith("train")]
    assert [line.split()[1] for line in repeated] == ["broken", "broken"]
    assert again.num_problems == 2


@pytest.mark.slow
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


@pytest.mark.slow
def test_more_seeds_run_only_the_new_ones(paper: papers.PaperInfo, tmp_path: Path) -> None:
    run(paper, tmp_path, seeds=1)
    calls(tmp_path)

    result = run(paper, tmp_path, seeds=(0, 4))

    trained = [line for line in calls(tmp_path) if line.startswith("train")]
    assert sorted(line.split()[2] for line in trained) == ["4", "4"]
    assert result.data["provenance"]["command"].endswith("--preset=cpu --seeds=0,4")
    assert result.data["cells"][0]["values"] == {"0": 0.10, "4": 0.14}


@pytest.mark.slow
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
        runner.run_table(paper, "2", workdir=tmp_path)
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
        "import sys; from pathlib import Path\n"
        "from common import papers; from common.results import runner\n"
        "from common.errors import Interrupted\n"
        f"paper = papers.PaperInfo({paper.name!r}, '', Path({str(paper.folder)!r}), {{}})\n"
        "try:\n"
        f"    runner.run_table(paper, '1', workdir={str(tmp_path / 'runs')!r},"
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
