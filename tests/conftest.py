"""How every test runs: CPU, strict JAX settings, checked annotations, no cache of the user's.

The settings of JAX are strict here and nowhere else, so that library code meets them in tests and
costs nothing in use. One device: a test of several devices starts a `child`.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports jax
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # cached programs are loaded with a false alarm
for name in ("DATA_DIR", "XLA_FLAGS"):  # the machine's own data and devices are not the test's
    os.environ.pop(name, None)

import jax
import pytest
from jaxtyping import install_import_hook

import tests.annotations  # noqa: F401 - named below
from tests.processes import REPOSITORY, Child, run_child

PACKAGES = ["common", "nfn", "landscape", "rlhf", "finetune", "sciml"]

# Every annotated function of the packages checks its shapes and types when a test calls it.
_hook = install_import_hook(PACKAGES, "tests.annotations.check")

from common.papers import TOPICS


def pytest_configure() -> None:
    # Compiled programs are shared between workers, child processes and the next run of the suite.
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "xla"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_key_reuse", True)


def pytest_unconfigure() -> None:
    _hook.uninstall()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("libtpu") is None:
        no_libtpu = pytest.mark.skip(reason="needs libtpu: `make aot`")
        for item in items:
            if item.get_closest_marker("aot"):
                item.add_marker(no_libtpu)


@pytest.fixture(autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of papers run small programs once: they compile without most optimizations.

    Not those marked `optimized`, which run for longer than they compile.
    """
    optimized = request.node.get_closest_marker("optimized") is not None
    quick = request.path.parent.name in TOPICS and not optimized
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session", autouse=True)
def lab_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated data sets go to a folder of this test session, shared by its workers."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    folder = base / "lab_cache"
    os.environ["LAB_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def child(lab_cache: Path) -> Child:
    """`child(code)` or `child(["train", ...], devices=8)`: see `tests/processes.py`."""
    del lab_cache  # its environment variable is inherited
    return run_child
