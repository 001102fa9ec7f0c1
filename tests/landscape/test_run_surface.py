"""`lab surface` of small runs: their own evaluation at the center, a known Hessian, mistakes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.lab import cli
from common.runs import load, read_result
from landscape.grids import Surface, from_json
from landscape.objectives import loss_of, objective_of
from landscape.run_planes import Plane
from landscape.run_surface import measured
from landscape.surfaces import NotFiniteError
from tests.landscape.small_networks import shallow_networks
from tests.mistakes import TRAIN

# A network with batch normalization, and the classifier of a stranger beside its README.
DEPTH = "landscape/visualizing/configs/depth.py:cpu"
SMALL = {
    "data.size": "7",
    "data.num_train": "40",
    "data.num_test": "40",
    "evaluate_chunk": "20",
    "model.depth": "4",
    "model.width": "4",
    "num_steps": "4",
    "steps_per_call": "1",
    "batch_size": "20",
    "optimizer.decay_at": "(0.5,)",
    "eval_every": "0",
    "surface.images": "40",
}
FLOAT32 = 1e-6  # of sums of some hundred terms, in another order


def lab(*words: str, capfd: pytest.CaptureFixture[str], code: int = 0) -> str:
    """Returns what a command prints, on stdout or, if it fails, on stderr."""
    assert cli.main(list(words)) == code, capfd.readouterr().err
    printed = capfd.readouterr()
    return printed.err if code else printed.out


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a quadratic loss of four numbers, and all its checkpoints."""
    workdir = tmp_path_factory.mktemp("line")
    more = ["--config.keep=9", "--config.optimizer.learning_rate=0.01", f"--workdir={workdir}"]
    assert cli.main([*TRAIN, *more]) == 0
    (run,) = workdir.glob("*/*/*/seed0")
    return run


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of a network with batch normalization."""
    workdir = tmp_path_factory.mktemp("normalized")
    fields = [f"--config.{name}={value}" for name, value in SMALL.items()]
    with shallow_networks():
        assert cli.main(["train", f"--config={DEPTH}", *fields, f"--workdir={workdir}"]) == 0
        (run,) = workdir.glob("*/*/*/seed0")
        yield run


def written(folder: Path) -> tuple[Surface, dict[str, Any]]:
    """Returns the surface and the numbers of a folder, which has its picture and page too."""
    assert (folder / "surface.png").stat().st_size > 10_000
    assert "<canvas" in (folder / "surface.html").read_text()
    texts = [json.loads((folder / f"{name}.json").read_text()) for name in ("surface", "numbers")]
    return from_json(texts[0]), texts[1]


def test_the_plane_of_a_quadratic_run_is_the_parabola_of_its_hessian(
    line: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("surface", str(line), "--direction=hessian", "--resolution=5", "--span=0.5")
    printed = lab(*words, f"--to={tmp_path}", capfd=capfd)
    run = load(line)
    x, slope = np.asarray(run.data["x"], float), np.asarray(run.state.params["slope"], float)
    values, vectors = np.linalg.eigh(2 * x.T @ x / len(x))
    values, vectors = values[::-1], vectors[:, ::-1]

    surface, numbers = written(tmp_path)

    np.testing.assert_allclose(numbers["eigenvalues"], values, rtol=10 * FLOAT32)
    assert max(numbers["residuals"]) < 1e-4 * values[0]
    error = x @ slope - np.asarray(run.data["y"], float)
    gradient = vectors.T @ (2 * x.T @ error / len(x))
    lengths = np.sqrt(2 * np.mean(error**2) / values[:2])  # L rises by L itself
    pairs = zip(lengths, surface.axes, strict=True)
    a, b = np.meshgrid(*(c * axis for c, axis in pairs), indexing="ij")
    bend = (values[0] * a**2 + values[1] * b**2) / 2
    # An eigenvector has two signs, which turn the plane: the gradient is not 0 there.
    slopes = [s * gradient[0] * a + t * gradient[1] * b for s in (1, -1) for t in (1, -1)]
    found = surface.values["valid_error"] - np.mean(error**2) - bend
    misses = [np.abs(found - one).max() for one in slopes]
    assert min(misses) < 1e-4 * np.abs(bend).max() < 0.1 * np.abs(slopes[0]).max()
    assert numbers["non_convex_share"] == 0 and f"written              {tmp_path}" in printed


def test_the_path_of_a_run_lies_on_its_principal_plane(
    line: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("--direction=pca", "--step=last", "--resolution=5", "--nocurvature")
    lab("surface", str(line), *words, f"--to={tmp_path}", capfd=capfd)
    surface, numbers = written(tmp_path)
    path, run = numbers["path"], load(line, "last")

    assert path["steps"] == [10, 20, 30, 40] and "eigenvalues" not in numbers
    assert path["coordinates"][-1] == [0, 0]
    assert all(0 in axis for axis in surface.axes)
    places = np.array(path["coordinates"])
    for axis, along in zip(surface.axes, places.T, strict=True):
        assert axis[0] < along.min() and along.max() < axis[-1]
    slopes = np.stack([np.asarray(run.state_at(step).params["slope"]) for step in path["steps"]])
    lengths = np.linalg.norm(slopes - slopes[-1], axis=1)
    inside = np.hypot(np.linalg.norm(places, axis=1), path["residuals"])
    np.testing.assert_allclose(inside, lengths, rtol=1e-5)
    assert path["losses"][-1] == pytest.approx(numbers["center"]["valid_error"], rel=FLOAT32)


@pytest.mark.slow
def test_the_center_of_a_surface_is_the_evaluation_of_the_run(
    normalized: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = read_result(normalized)
    assert result is not None
    printed = lab("surface", str(normalized), "--resolution=3", "--nocurvature", capfd=capfd)
    surface, numbers = written(normalized / "surfaces/train_loss-filter-step4")

    expected = result["metrics"]["last"]["train_loss"]
    assert numbers["center"] == {"train_loss": pytest.approx(expected, rel=FLOAT32)}
    assert surface.shape == (3, 3) and np.ptp(surface.values["train_loss"]) > 0.1
    assert surface.values["train_loss"][1, 1] == numbers["center"]["train_loss"]
    assert numbers["rows"] == [40, 40]
    for fact in ("filter-normalized", "at rest", "frozen, as saved", "all 40 rows"):
        assert fact in printed


def test_fewer_rows_are_evenly_spread_and_the_rest_of_the_state_stays(normalized: Path) -> None:
    run = load(normalized)
    objective = objective_of(run, metrics="train_error,train_loss", rows=7)
    doubled = {name: 2 * np.asarray(x) for name, x in objective.params.items()}
    values = jax.jit(objective.values)(doubled, None, objective.frozen)

    state = run.state._replace(params=jax.tree.map(lambda x: 2 * np.asarray(x), run.state.params))
    rows = jax.tree.map(lambda x: np.asarray(x)[np.arange(7) * 40 // 7], run.data["train"])
    logits = np.asarray(run._replace(state=state).predict(rows["image"]), float)
    right = np.take_along_axis(logits, rows["label"][:, None].astype(int), 1)[:, 0]
    losses = np.log(np.exp(logits - logits.max()).sum(1)) + logits.max() - right
    errors = 100.0 * (logits.argmax(1) != rows["label"])
    assert objective.rows == (7, 40) and list(values) == ["train_error", "train_loss"]
    assert float(values["train_loss"]) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(values["train_error"]) == pytest.approx(errors.mean(), rel=FLOAT32)


@pytest.mark.parametrize(
    ("names", "best", "loss"),
    [
        (("valid_accuracy", "valid_loss"), "valid_accuracy", "valid_loss"),
        (("valid_do_nothing_mse", "valid_mse"), "", "valid_mse"),
        (("a_loss", "valid_error"), "-valid_error", "valid_error"),
        (("valid_boundary_rmse", "valid_relative_l2"), "", "valid_relative_l2"),
        (("valid_elbo", "valid_kl"), "valid_elbo", "valid_elbo"),
    ],
)
def test_the_loss_of_a_run_is_what_is_small_where_it_is_good(
    names: tuple[str, ...], best: str, loss: str
) -> None:
    assert loss_of(names, best) == loss


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--direction=filtr",), 2, "--direction='filtr': expected one of filter, layer, weight"),
        (("--resolution=24",), 2, "--resolution=24: expected an odd number"),
        (("--span=-1",), 2, "--span=-1.0: expected a number above 0"),
        (("--span=wide",), 2, "--span='wide': expected a number"),
        (("--step=7",), 4, "no checkpoint of step 7; there: 10, 20, 30, 40"),
        (("--direction=pca", "--step=20"), 2, "2 checkpoints up to step 20, expected 3 or more"),
        (("--metric=loss",), 2, "metric=loss: expected of evaluate valid_error"),
        (("--rows=5",), 2, "rows=5: `evaluate`, which gives valid_error, does not go over"),
        ((), 2, "all parameters are vectors, such as biases"),
        (("--seed=3",), 2, "has seed 0, not seed 3"),
    ],
)
def test_a_mistake_is_one_line(
    words: tuple[str, ...], code: int, says: str, line: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    printed = lab("surface", str(line), *words, capfd=capfd, code=code)

    (said,) = [one for one in printed.splitlines() if one.startswith("lab: ")]
    assert says in said


def test_a_run_whose_loss_is_not_finite_has_no_surface(
    line: Path,
) -> None:
    objective = objective_of(load(line))
    broken = {name: jnp.asarray(np.full_like(x, np.inf)) for name, x in objective.params.items()}
    along = np.array([-1.0, 0.0, 1.0])
    plane = Plane((broken, broken), (along, along), "")
    with pytest.raises(NotFiniteError, match="valid_error is not finite at the center"):
        measured(objective._replace(params=broken), plane)
    assert NotFiniteError.exit_code == 3


def test_help_of_a_verb_is_found_by_its_name(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (("help", "surface"), ("surface", "--help")):
        printed = lab(*words, capfd=capfd)
        assert "--resolution=25" in printed and "Exit codes" in printed
