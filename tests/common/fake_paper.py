"""A paper outside the tree, with one table: what `common.results.runner` runs in tests."""

import sys
from pathlib import Path

import pytest

from common import papers

CONFIG = '''"""Fake."""
from ml_collections import ConfigDict
from common.config import choices

CHOICES = {"preset": ("cpu", "paper")}

def get_config(arg=None):
    args = choices(arg, CHOICES)
    config = ConfigDict(dict(experiment="experiment.py:fake", kind="a", data=dict(size=4)))
    config.num_steps = 10 if args["preset"] == "cpu" else 1000
    return config
'''

TABLES = '''"""Tables of a fake paper."""
from common.tables import Cell, Published, Table
from common.comparisons import above, beats
from common.verdicts import claim

def count(config):
    return {"weights": 1234 + config.seed}

def draw(data, run_dirs, out_path):
    assert run_dirs["B", "acc"][0].name == "seed0"
    out_path.write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + data["title"].encode())

@claim("paper", "Table 1")
def b_beats_a(t):
    """B beats A by two standard errors."""
    return beats(t["B", "acc"], t["A", "acc"], paired=False)

@claim()
def a_is_large(t):
    """A is above 90 <percent>."""
    return above(t["A", "acc"], 90)

TABLE = Table(
    name="1", title="A & B", source="Doe (2020), Table 1", config=CONFIG_PATH,
    cells=(
        Cell("A", "acc", {"kind": "a"}, "accuracy", Published(90.5, 0.25, "Table 1")),
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
    text = '"""Never called."""\nfake = other = None\n'
    (paper / "configs" / "experiment.py").write_text(text)
    (paper / "tables").mkdir()
    (paper / "tables" / "__init__.py").write_text(TABLES.replace("CONFIG_PATH", repr(str(config))))
    return papers.PaperInfo("faketopic.fakepaper", "A fake paper", paper, {"fake": config})


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.syspath_prepend(folder)
    patch.setenv("PYTHONPATH", str(folder))
    for name in [name for name in sys.modules if name.startswith("faketopic")]:
        patch.delitem(sys.modules, name)
