"""The README does what it says: its example trains, its loading code predicts, its weights load."""

import re
import shlex
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, run_child

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def num_code_lines(text: str) -> int:
    """Returns the number of lines that are neither empty nor only a comment."""
    return sum(bool(line.strip()) and not line.startswith("#") for line in text.splitlines())


def test_an_experiment_of_ones_own_trains_and_its_run_predicts(tmp_path: Path) -> None:
    config, experiment, metric, load, weights = BLOCKS
    assert num_code_lines(config) + num_code_lines(experiment) <= 40
    assert num_code_lines(load) <= 10 and num_code_lines(weights) <= 5
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "config.py").write_text(config)
    more = re.sub(r"    def values.*?\n\n", lambda _: f"{metric}\n", experiment, flags=re.DOTALL)
    assert more != experiment
    (tmp_path / "my_lab" / "experiment.py").write_text(more)

    (command,) = re.findall(r"^lab (train --config=my_lab.*)$", README, re.MULTILINE)
    trained = run_child(shlex.split(command), cwd=tmp_path, seconds=200)
    assert trained.returncode == 0, trained.stderr
    best = float(re.findall(r"valid_accuracy ([\d.]+)", trained.stdout)[-1])
    top3 = float(re.findall(r"valid_top3 ([\d.]+)", trained.stdout)[-1])
    assert 90 < top3 <= 100
    assert best > 70  # ten classes; a linear model reaches about 80

    (export,) = re.findall(r"^lab (export \S+ --to=\S+)", README, re.MULTILINE)
    words = export.replace("0123456789ab", trained.stdout.split("run folder: ")[1].split()[0])
    more = f"from common.lab import cli\ncli.run({shlex.split(words)!r})\n{weights}"
    loaded = run_child(f"{load}\n{more}", cwd=tmp_path, seconds=200)
    assert loaded.returncode == 0, loaded.stderr
    labels, metrics, _, shapes, facts = loaded.stdout.strip().splitlines()[-5:]
    assert len(re.findall(r"\d+", labels)) == 10
    assert float(re.findall(r"'valid_accuracy': ([\d.]+)", metrics)[0]) == pytest.approx(best, 1e-3)
    assert "'params/layers_1/kernel': (784, 64)" in shapes
    assert facts.startswith("{'learning_rate': 0.001, 'name': 'adam'} ")
