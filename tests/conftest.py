"""How every test runs: CPU, strict JAX settings, checked annotations, no cache of the user's.

The settings of JAX are strict here and nowhere else, so that library code meets them in tests and
costs nothing in use. One device: a test of several devices starts a `child`.
"""

import ctypes
import gc
import importlib.util
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports jax
# Two workers on two cores: threads of BLAS that wait for work would take the other one's core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # cached programs are loaded with a false alarm
# The machine's own data and devices are not the test's; the instruction set is who runs it to say.
if data_folder := os.environ.pop("DATA_DIR", None):
    os.environ["LAB_TEST_DATA"] = data_folder  # for tests that ask for it; workers inherit it
flags = os.environ.pop("XLA_FLAGS", "").split()
if kept := [flag for flag in flags if flag.startswith("--xla_cpu_max_isa=")]:
    os.environ["XLA_FLAGS"] = " ".join(kept)

import jax
import pytest
from jaxtyping import install_import_hook

import tests.annotations  # noqa: F401 - named below
from tests.processes import REPOSITORY, Child, run_child

# Files that take longest start first: a worker that gets one last keeps the other waiting.
HEAVY = (
    "tests/test_experiments.py",
    "tests/rlhf/test_labelling_training.py",
    "tests/rlhf/test_human_preferences.py",
    "tests/sciml/test_boon.py",
    "tests/sciml/test_refinement.py",
    "tests/landscape/test_sharpening.py",
    "tests/nfn/test_classification.py",
)
OPTIMIZED = ("faults", "pods")  # folders whose tests compile as users do
MAX_RESIDENT_BYTES = 1_000_000_000  # of a worker between two files; below 2 GB within one
TERMINAL_SIGNALS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}
PACKAGES = sorted(path.parent.name for path in REPOSITORY.glob("*/__init__.py"))

# Every annotated function of the packages checks its shapes and types when a test calls it.
_hook = install_import_hook(PACKAGES, "tests.annotations.check")

from common.devices.jax_start import programs_folder

pytest_plugins = ["tests.costs"]


def pytest_configure() -> None:
    # Compiled programs are shared between workers, child processes and the next run of the suite,
    # the many small ones of tests too.
    programs = str(programs_folder(REPOSITORY / ".cache"))
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", programs)
    least = os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float(least))
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_key_reuse", True)


def pytest_unconfigure() -> None:
    _hook.uninstall()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(HEAVY)}
    items.sort(key=lambda item: order.get(item.location[0], len(order)))
    if importlib.util.find_spec("libtpu") is None:
        no_libtpu = pytest.mark.skip(reason="needs libtpu: `make aot`")
        for item in items:
            if item.get_closest_marker("aot"):
                item.add_marker(no_libtpu)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests run small programs once: without most optimizations, which is half of the compiling.

    Module fixtures and children, too. Not files marked `optimized`, which run for longer than they
    compile or look at what is compiled, and not budgets and faults of programs as users have them.
    """
    marked = request.node.get_closest_marker("optimized") is not None
    quick = not marked and request.path.parent.name not in OPTIMIZED
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(quick)  # of children
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "False"


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision: rounding hides no wrong term."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def signals_of_a_terminal() -> Iterator[None]:
    """Signals that whoever started the suite ignores, as `nohup` and "&" in scripts do, come here.

    A process inherits what is ignored: children of tests would be others than those of a user.
    """
    ignored = [n for n in TERMINAL_SIGNALS if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, TERMINAL_SIGNALS[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """Compiled programs of a file are dropped after it, once a worker has grown large."""
    yield
    if resident_bytes() > MAX_RESIDENT_BYTES:
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Returns the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.fixture(scope="session", autouse=True)
def lab_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated data sets go to a folder of this test session, shared by its workers."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    folder = base / "lab_cache"
    os.environ["LAB_CACHE"] = str(folder)
    return folder


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's own $DATA_DIR, which is set for the test; without one it is skipped."""
    folder = os.environ.get("LAB_TEST_DATA")
    if not folder:
        pytest.skip("needs real data in $DATA_DIR")
    monkeypatch.setenv("DATA_DIR", folder)
    return Path(folder)


@pytest.fixture(scope="session")
def child(lab_cache: Path) -> Child:
    """`child(code)` or `child(["train", ...], devices=8)`: see `tests/processes.py`."""
    del lab_cache  # its environment variable is inherited
    return run_child
