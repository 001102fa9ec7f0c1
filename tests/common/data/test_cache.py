"""A generated set is made once, whole or not at all, and never read back damaged."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from absl import logging as absl_logging

from common.data.cache import cache_path, cached, describe
from common.errors import DataError
from tests.processes import REPOSITORY

CALLS: list[object] = []


class Inner(NamedTuple):
    omega: float = 30.0


class Spec(NamedTuple):
    size: int = 4
    kinds: tuple[Any, ...] = ("sine", "cosine")
    inner: Inner = Inner()
    seed: int | None = None
    version: int = 1


class Unversioned(NamedTuple):
    size: int = 4


def generate(spec: Spec) -> dict[str, np.ndarray]:
    CALLS.append(spec)
    return {
        "u/weights": np.arange(spec.size, dtype=np.float32) * spec.inner.omega,
        "file": np.array([True, False]),
        "scalar": np.asarray(float(spec.version)),
        "columns": np.asfortranarray(np.eye(spec.size, dtype=np.complex64)),
    }


def other(spec: Spec) -> dict[str, np.ndarray]:
    return {"x": np.zeros(spec.size)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    CALLS.clear()
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(absl_logging, "warning", lambda text, *args: heard.append(text % args))
    return heard


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left[name], right[name])


def test_a_set_is_generated_once_and_read_back_the_same() -> None:
    made = cached(Spec(), generate)
    read = cached(Spec(), generate)
    assert len(CALLS) == 1
    assert_same(made, read)
    assert_same(read, {k: np.asarray(v) for k, v in generate(Spec()).items()})


def test_every_field_the_version_and_the_function_are_in_the_key() -> None:
    specs = (
        Spec(),
        Spec(size=5),
        Spec(kinds=("sine",)),
        Spec(inner=Inner(30.000000000000004)),
        Spec(seed=0),
        Spec(version=2),
    )
    paths = {cache_path(spec, generate) for spec in specs}
    assert len(paths | {cache_path(Spec(), other)}) == len(specs) + 1
    assert cache_path(Spec(size=4), generate) == cache_path(Spec(), generate)


def test_the_key_is_the_same_in_another_process() -> None:
    code = (
        "import tests.common.data.test_cache as module\n"
        "print(module.cache_path(module.Spec(), module.generate))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    assert out.strip() == str(cache_path(Spec(), generate))


def test_the_manifest_tells_spec_and_checksum() -> None:
    assert describe(Spec(), generate)["sha256"] is None
    cached(Spec(), generate)
    facts = describe(Spec(), generate)
    manifest = json.loads((cache_path(Spec(), generate) / "MANIFEST.json").read_text())
    assert (
        facts["spec"]
        == manifest["spec"]
        == {
            "size": 4,
            "kinds": ["sine", "cosine"],
            "inner": {"omega": 30.0},
            "seed": None,
            "version": 1,
        }
    )
    assert facts["sha256"] == manifest["files"]["arrays.npz"]
    assert str(REPOSITORY) not in json.dumps(facts)


def damage_flip(entry: Path) -> None:
    content = bytearray((entry / "arrays.npz").read_bytes())
    content[len(content) // 3] ^= 8
    (entry / "arrays.npz").write_bytes(content)


def damage_numbers(entry: Path) -> None:
    """Leaves a good file, of other numbers: only its checksum in the manifest tells."""
    with zipfile.ZipFile(entry / "arrays.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(entry / "arrays.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:-1] + bytes([content[-1] ^ 8]))


def damage_cut(entry: Path) -> None:
    content = (entry / "arrays.npz").read_bytes()
    (entry / "arrays.npz").write_bytes(content[:-10])


def damage_manifest(entry: Path) -> None:
    (entry / "MANIFEST.json").write_bytes(b"\xff{")


def bury_manifest(entry: Path) -> None:
    (entry / "MANIFEST.json").write_text("[" * 100_000 + "]" * 100_000)


def replace_manifest(entry: Path) -> None:
    (entry / "MANIFEST.json").write_text("[]")


def damage_spec(entry: Path) -> None:
    text = (entry / "MANIFEST.json").read_text()
    (entry / "MANIFEST.json").write_text(text.replace('"size": 4', '"size": 5'))


@pytest.mark.parametrize(
    "damage",
    [
        damage_flip,
        damage_numbers,
        damage_cut,
        damage_manifest,
        bury_manifest,
        replace_manifest,
        damage_spec,
        lambda entry: (entry / "arrays.npz").unlink(),
        lambda entry: (entry / "MANIFEST.json").unlink(),
    ],
)
def test_a_damaged_entry_is_reported_and_made_again(
    damage: Callable[[Path], None], warnings: list[str]
) -> None:
    made = cached(Spec(), generate)
    entry = cache_path(Spec(), generate)
    damage(entry)

    assert_same(cached(Spec(), generate), made)

    assert len(CALLS) == 2
    assert len(warnings) == 1
    assert f"{entry}: is corrupt and will be made again" in warnings[0]
    assert_same(cached(Spec(), generate), made)
    assert len(CALLS) == 2


CHILD = """
import os, sys, time
from pathlib import Path
from typing import NamedTuple
import numpy as np
from common.data.cache import cache_path, cached

class Spec(NamedTuple):
    folder: str
    seconds: float
    version: int = 1

def slow(spec):
    (Path(spec.folder) / f"call-{os.getpid()}").touch()
    time.sleep(spec.seconds)
    return {"x": np.arange(1000)}

spec = Spec(sys.argv[1], float(sys.argv[2]))
x = cached(spec, slow)["x"]
assert (x == np.arange(1000)).all()
print(cache_path(spec, slow))
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(seconds)]
    return subprocess.Popen(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE)


def calls(folder: Path) -> int:
    return len(list(folder.glob("call-*")))


def wait_for_call(folder: Path) -> None:
    limit = time.monotonic() + 30
    while not calls(folder):
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_processes_that_start_together_generate_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, 1.0) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert calls(tmp_path) == 1
    assert len(outputs) == 1


def test_a_killed_process_leaves_no_entry_and_no_lock(tmp_path: Path, cache: Path) -> None:
    first = start(tmp_path, 60.5)
    wait_for_call(tmp_path)
    waiting = start(tmp_path, 60.5)  # the same spec: waits for the first
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert not list(cache.rglob("*.npz"))
    limit = time.monotonic() + 30
    while calls(tmp_path) < 2:  # the lock is free again: the second makes it now
        assert time.monotonic() < limit
        assert waiting.poll() is None
        time.sleep(0.01)
    os.kill(waiting.pid, signal.SIGKILL)
    waiting.communicate()


def test_a_process_killed_while_writing_leaves_nothing_readable(cache: Path) -> None:
    code = (
        "import os, signal, common.data.cache as c, numpy as np\n"
        "c.publish = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from typing import NamedTuple\n"
        "class Spec(NamedTuple):\n  version: int = 1\n"
        "def make(spec): return {'x': np.zeros(9)}\n"
        "c.cached(Spec(), make)\n"
    )
    for kill in (True, True, False):  # a second one cleans up after the first
        text = code if kill else code.replace("c.publish", "unused")
        done = subprocess.run([sys.executable, "-c", text], cwd=REPOSITORY, check=False)
        assert done.returncode == (-signal.SIGKILL if kill else 0)
        folders = [path for path in cache.glob("*/*") if path.is_dir()]
        assert len(folders) == 1
        assert (".tmp-" in folders[0].name) == kill


def test_a_failing_generator_leaves_nothing_and_can_be_called_again(cache: Path) -> None:
    with pytest.raises(OSError, match="of its own"):
        cached(Spec(), failing)
    assert not [path for path in cache.glob("*/*") if path.is_dir()]
    cached(Spec(), generate)


def failing(spec: Spec) -> dict[str, np.ndarray]:
    del spec
    raise OSError(5, "of its own")  # not blamed on the cache


def test_a_full_disk_is_one_line_that_names_the_path(cache: Path) -> None:
    code = (
        "import resource, sys, numpy as np\n"
        "from typing import NamedTuple\n"
        "from common.data.cache import cached\n"
        "from common.errors import DataError\n"
        "class Spec(NamedTuple):\n  version: int = 1\n"
        "def make(spec): return {'x': np.zeros(100_000)}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n  cached(Spec(), make)\n"
        "except DataError as error:\n  print(error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    assert out.count("\n") == 1
    assert str(cache) in out
    assert "File too large" in out
    assert not [path for path in cache.glob("*/*") if path.is_dir()]


def test_an_unwritable_cache_is_one_line_that_names_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be used as storage"):
        cached(Spec(), generate)
    assert not CALLS  # found before the work, not after


def test_what_cannot_be_keyed_or_stored_is_refused() -> None:
    local = lambda spec: {"x": np.zeros(1)}
    cases: tuple[tuple[Any, Any, str], ...] = (
        (Spec(), local, "top level of a module"),
        (Unversioned(), generate, "version"),
        (Spec(kinds=(np.float32(1),)), generate, r"Spec\.kinds\[0\]=.*a spec holds"),
        (Spec(inner=Inner(float("nan"))), generate, r"Spec\.inner\.omega=nan"),
        (Spec(), objects, "plain NumPy types"),
    )
    for spec, function, reason in cases:
        with pytest.raises(TypeError, match=reason):
            cached(spec, function)


def objects(spec: Spec) -> dict[str, np.ndarray]:
    return {"x": np.array([spec, None], dtype=object)}
