"""The code of an experiment: which files it is, and that its siblings are its own."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from common.errors import UserError
from common.jobs import trainings
from common.papers import REPOSITORY
from common.provenance import source


def project(folder: Path, files: dict[str, str]) -> ConfigDict:
    """Writes files and returns a config of the experiment `exp.py:build` among them."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return ConfigDict({"experiment": "exp.py:build", "config_dir": str(folder)})


FILES = {
    "exp.py": "import jax\nfrom helper import SCALE\n"
    "def late():\n    import lazy\n    return lazy.X\n",
    "helper.py": "from nets import mlp\n"
    "from nets.mlp import WIDTH\nSCALE = WIDTH + 10 * mlp.WIDTH\n",
    "nets/__init__.py": "",
    "nets/mlp.py": "from . import sizes\nWIDTH = sizes.N\n",
    "nets/sizes.py": "N = 3\n",
    "nets/unused.py": "N = 4\n",
    "lazy.py": "X = 7\n",
    "plots.py": "import exp\n",  # beside it, but no part of it
    "jax.txt": "",
}


def test_the_code_is_the_file_and_what_it_imports_from_beside_it(tmp_path: Path) -> None:
    config = project(tmp_path, FILES)
    found = source.digests(config)
    parts = ["exp.py", "helper.py", "lazy.py", "nets/__init__.py", "nets/mlp.py", "nets/sizes.py"]
    assert list(found) == parts
    assert all(found[n] == hashlib.sha256(FILES[n].encode()).hexdigest() for n in parts)
    (tmp_path / "plots.py").write_text("import os")
    assert source.changes(found, source.digests(config)) == ""

    (tmp_path / "nets/sizes.py").write_text("N = 5\n")
    (tmp_path / "exp.py").write_text(FILES["exp.py"].replace("import lazy", "import plots as lazy"))
    told = source.changes(found, source.digests(config))
    assert told == "exp.py has changed, nets/sizes.py has changed, lazy.py is gone and 1 more"
    moved = project(tmp_path / "moved", FILES)
    assert source.digests(moved) == found  # names are relative: a project may move
    moved.experiment = "none.py:build"
    assert source.digests(moved) == {}


def test_siblings_are_imported_by_the_experiment_and_by_nobody_else(tmp_path: Path) -> None:
    project(tmp_path / "a", FILES)
    b = project(tmp_path / "b", {**FILES, "nets/sizes.py": "N = 4\n", "json.py": "A = 1\n"})
    (tmp_path / "b/exp.py").write_text(FILES["exp.py"] + "import json\n")
    path = list(sys.path)
    one, two = (source.load(tmp_path / name / "exp.py") for name in "ab")

    assert (one.SCALE, two.SCALE) == (33, 44)  # of the same names, each its own
    assert two.json.A == 1 and "json.py" in source.digests(b)
    import json as standard

    assert not hasattr(standard, "A") and sys.modules["json"] is standard
    assert one.late() == two.late() == 7  # also what is imported inside a function
    assert sys.path == path and not {"helper", "lazy", "nets"} & sys.modules.keys()
    assert not list(tmp_path.rglob("__pycache__"))

    (tmp_path / "a/nets/sizes.py").write_text("N = 9\n")  # edited in the same second, same size
    assert source.load(tmp_path / "a/exp.py").SCALE == 99


def test_modules_beside_the_config_file_are_found_after_those_beside_the_experiment(
    tmp_path: Path,
) -> None:
    files = {
        "sub/exp.py": "from x import A\nfrom y import B\n",
        "sub/x.py": "A = 1",
        "y.py": "B = 2",
    }
    config = project(tmp_path, {**files, "x.py": "A = 3", "common/x.py": "A = 4", "loose/z.py": ""})
    module = source.load(tmp_path / "sub/exp.py", tmp_path)
    assert (module.A, module.B) == (1, 2)
    config.experiment = "sub/exp.py:build"
    assert list(source.digests(config)) == ["sub/exp.py", "sub/x.py", "y.py"]
    # `common` is ours, whatever lies beside the experiment; a folder of modules needs no __init__.
    (tmp_path / "sub/exp.py").write_text(
        "from loose import z\nfrom common.errors import LabError\n"
    )
    assert source.load(tmp_path / "sub/exp.py", tmp_path).LabError is source.UserError.__base__
    assert list(source.digests(config)) == ["loose/z.py", "sub/exp.py"]


def test_what_is_not_beside_is_told_as_python_tells_it(tmp_path: Path) -> None:
    project(tmp_path, {"exp.py": "import nowhere_to_be_found"})
    with pytest.raises(ModuleNotFoundError, match="'nowhere_to_be_found'"):
        source.load(tmp_path / "exp.py")


def test_the_code_of_a_paper_is_that_of_its_topic() -> None:
    config = ConfigDict({"experiment": "nfn.equivariant:inr_classification", "config_dir": ""})
    found = source.digests(config)
    assert {"nfn/equivariant/experiments.py", "nfn/layers.py"} <= found.keys()
    assert all(name.startswith("nfn/") and (REPOSITORY / name).is_file() for name in found)
    function = source.digests(config, "nfn.layers:equivariant_layer")
    assert "nfn/layers.py" in function and function.items() < found.items()


def test_other_code_is_refused_or_warned_of(tmp_path: Path, logged_warnings: list[str]) -> None:
    def check(began: Any, allowed: bool) -> bool:
        return source.Code({"exp.py": "1"}, allowed).check(tmp_path, began)

    assert not check({"exp.py": "1"}, False) and logged_warnings == []
    with pytest.raises(UserError, match=r"other code: exp\.py has changed; .*--allow-changed-code"):
        check({"exp.py": "2"}, False)
    assert check({"exp.py": "2"}, True) and "exp.py has changed" in logged_warnings.pop()
    assert not check(None, False)  # of a version that recorded none
    assert "whether the code has changed is not known" in logged_warnings.pop()


def test_a_table_or_sweep_does_not_take_numbers_of_other_code_silently(
    tmp_path: Path, logged_warnings: list[str]
) -> None:
    here = {"exp.py": "1"}
    results = [{"code": here}, {"code": {"exp.py": "0"}}, {"code": {"exp.py": "2"}}, {}]
    found = [(tmp_path / str(i), result, here) for i, result in enumerate(results)]
    trainings.check_code(found[:1], allowed=False)
    assert logged_warnings == []
    told = rf"2 of 4 finished runs were made by other code: {tmp_path}/1: exp\.py has changed"
    with pytest.raises(UserError, match=f"{told}; .*--allow-changed-code"):
        trainings.check_code(found, allowed=False)
    trainings.check_code(found, allowed=True)
    silent = "1 of 4 finished runs say nothing of their code"
    assert logged_warnings[:2] == [silent] * 2 and re.match(told, logged_warnings[2])
    training = trainings.Training("n", "l", ("lab", "train"), (0,))
    assert trainings.allowing(training).command[-1] == "--allow-changed-code"
