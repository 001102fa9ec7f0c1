"""Which Python `make` builds the environment with, and that both stacks are locked."""

import os
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

from common.papers import TOPICS
from tests.costs import SHARES
from tests.processes import REPOSITORY

WORKS = '#!/bin/sh\ncase "$1" in --version) echo "Python 3.x";; esac\n'
BROKEN = "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def find(home: Path, path: Sequence[Path], wanted: str = "") -> subprocess.CompletedProcess[str]:
    """Runs .ci/find_python with nothing but `path` and the system's own tools to find."""
    tools = home / "tools"
    for name in ("bash", "head"):
        program(tools / name, f'#!/bin/sh\nexec /bin/{name} "$@"\n')
    env = {"PATH": os.pathsep.join(map(str, [*path, tools])), "HOME": str(home)}
    command = ["/bin/bash", str(REPOSITORY / ".ci" / "find_python"), wanted]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_the_newest_python_that_runs_is_taken_not_the_newest_name(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    program(folder / "python3.13", BROKEN)
    program(folder / "python3.12", WORKS)
    program(folder / "python3.11", WORKS)

    assert find(tmp_path, [folder]).stdout == f"{folder / 'python3.12'}\n"
    assert find(tmp_path, [folder], "3.11").stdout == f"{folder / 'python3.11'}\n"


def test_pythons_that_pyenv_and_uv_installed_are_found(tmp_path: Path) -> None:
    uv = program(tmp_path / ".local/share/uv/python/cpython-3.12.4-linux/bin/python3.12", WORKS)
    assert find(tmp_path, []).stdout == f"{uv}\n"

    # Of a pyenv whose shims are on the path, whatever the home is.
    pyenv = program(tmp_path / "other/versions/3.13.1/bin/python3.13", WORKS)
    program(tmp_path / "other/shims/python3.13", BROKEN)
    for wanted in ("", "3.13", "python3.13"):
        assert find(tmp_path, [tmp_path / "other/shims"], wanted).stdout == f"{pyenv}\n"


def test_a_python_that_will_not_do_is_one_line_that_says_why(tmp_path: Path) -> None:
    old = program(tmp_path / "bin/python3.9", WORKS.replace("esac", "*) exit 1;; esac"))

    named, none = find(tmp_path, [], str(old)), find(tmp_path, [])

    assert (named.returncode, none.returncode) == (2, 2)
    assert named.stderr.splitlines() == [
        f"PYTHON={old}: wanted Python 3.11, 3.12 or 3.13 with the module venv, got: Python 3.x"
    ]
    assert len(none.stderr.splitlines()) == 1
    assert "PYTHON=/path/to/python" in none.stderr


def test_every_topic_is_installed_and_has_its_share_of_the_suite() -> None:
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    wanted = [f"{name}*" for name in ("common", *TOPICS)]

    assert setuptools["packages"]["find"]["include"] == wanted, "pyproject.toml, packages.find"
    assert SHARES.keys() == {"common", *TOPICS, "reserve"}, "tests/costs.py, SHARES"


def test_every_lock_holds_the_pins_of_both_stacks() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locks = {name: REPOSITORY / f".ci/requirements-{name}.txt" for name in ("aot", "cuda", "tpu")}
    pinned = {REPOSITORY / ".ci/requirements.txt": [*project["dependencies"], *extras["dev"]]}
    pinned |= {path: extras[name] for name, path in locks.items()}

    for lock, pins in pinned.items():
        locked = {line.split(" ;")[0].rstrip(" \\") for line in lock.read_text().splitlines()}
        for pin in pins:
            name, version = pin.partition(";")[0].strip().split("==")
            package = name.partition("[")[0].lower()
            assert f"{package}=={version}" in locked, f"{lock.name} lacks {pin}; run `make lock`"
