"""The README of this topic does what it says: pictures and numbers of a stranger's networks."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from landscape import directions
from landscape.directions import random_plane
from tests.processes import REPOSITORY

README = (REPOSITORY / "landscape/README.md").read_text()
PLAIN, FLAX, EDGE, RANK = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(autouse=True)
def directions_in_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples draw them once, operation by operation; to compile all of these takes a second."""
    compiled = jax.jit(random_plane, static_argnames="rules")
    monkeypatch.setattr(directions, "random_plane", compiled)


def names_of(code: str) -> dict[str, Any]:
    """Returns what an example defines; it is to be short, imports aside."""
    lines = [line for line in code.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import", "from"))]) <= 15
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def sharpness_of(matrix: np.ndarray, params: Any) -> float:
    """Returns sum_f ||theta_f||^2 tr(H_ff) / n_f over the columns f of kernels."""
    diagonal, total, start = np.diagonal(matrix), 0.0, 0
    for name, leaf in sorted(params.items()):
        here = diagonal[start : start + leaf.size].reshape(leaf.shape)
        start += leaf.size
        if name.startswith("kernel"):
            total += float(np.sum((leaf**2).sum(0) * here.mean(0)))
    return total


def flattened(params: dict[str, Any]) -> tuple[np.ndarray, Any]:
    """Returns parameters as one vector, and its inverse, without a program of their own."""
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def unravel(vector: jax.Array) -> Any:
        pairs = zip(leaves, ends, strict=True)
        parts = [vector[end - x.size : end].reshape(x.shape) for x, end in pairs]
        return structure.unflatten(parts)

    return np.concatenate([np.ravel(leaf) for leaf in leaves]), unravel


@pytest.mark.slow  # the shortest example is run by default
def test_the_readme_looks_at_a_network_in_plain_jax(tmp_path: Path) -> None:
    names, random = names_of(PLAIN), np.random.default_rng(0)
    shapes = {"kernel_0": (3, 4), "bias_0": (4,), "kernel_1": (4, 2)}
    params = {name: np.float32(random.normal(size=s)) for name, s in shapes.items()}
    x = random.normal(size=(20, 3))
    batch = {"x": np.float32(x), "y": np.float32(x[:, :2])}
    file = tmp_path / "plain.png"

    found, values, residuals, sharp = names["look_at"](params, batch, file)

    flat, unravel = flattened(params)
    loss = lambda vector: names["loss"](unravel(vector), batch)
    value, matrix = jax.jit(lambda v: (loss(v), jax.hessian(loss)(v)))(flat)
    matrix = np.asarray(matrix, float)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    # Products in float32: a few units in the last place of the largest eigenvalue.
    np.testing.assert_allclose(values, expected[:5], atol=1e-5 * expected[0])
    assert residuals.max() < 1e-3 * expected[0]
    np.testing.assert_allclose(found.values["loss"][12, 12], value, rtol=1e-6)
    assert abs(sharp.value - sharpness_of(matrix, params)) < 4 * sharp.stderr
    assert file.stat().st_size > 10_000


class StrangersNetwork(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        return nn.Dense(3)(nn.relu(x))


@pytest.mark.slow
def test_the_readme_looks_at_a_network_in_flax(tmp_path: Path) -> None:
    names, model = names_of(FLAX), StrangersNetwork()
    random = np.random.default_rng(1)
    image = np.float32(random.normal(size=(30, 5)))
    rows = {"image": image, "label": random.integers(0, 3, 30)}
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    # Statistics that are not those a fresh network has: a random direction would change them.
    variables = jax.tree.map(lambda x: np.float32(random.uniform(0.5, 3, x.shape)), shapes)

    found, values, _, sharp = names["look_at"](model, variables, rows, tmp_path / "flax.png")

    flat, unravel = flattened(variables["params"])

    def loss(vector: jax.Array) -> jax.Array:
        logits = model.apply({**variables, "params": unravel(vector)}, image)
        assert isinstance(logits, jax.Array)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), rows["label"][:, None], axis=1)
        return -jnp.mean(chosen)

    value, matrix = jax.jit(lambda v: (loss(v), jax.hessian(loss)(v)))(flat)
    expected = np.linalg.eigvalsh(np.asarray(matrix, float))[::-1]
    np.testing.assert_allclose(values, expected[:5], atol=1e-5 * expected[0])
    np.testing.assert_allclose(found.values["loss"][12, 12], value, rtol=1e-6)
    assert 0 <= found.values["accuracy"].min() < found.values["accuracy"].max() <= 100
    assert sharp.value > 0 and sharp.stderr < sharp.value


def test_the_readme_says_whether_training_is_at_the_edge_of_stability(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names, random = names_of(EDGE), np.random.default_rng(0)
    shapes = {"kernel_0": (3, 4), "bias_0": (4,), "kernel_1": (4, 2)}
    params = {name: np.float32(random.normal(size=s)) for name, s in shapes.items()}
    x = random.normal(size=(20, 3)).astype(np.float32)
    rows = [{"x": x[i : i + 10], "y": x[i : i + 10, :2]} for i in (0, 10)]
    flat, unravel = flattened(params)
    loss = lambda vector: names["loss"](unravel(vector), {"x": x, "y": x[:, :2]})
    top = float(np.linalg.eigvalsh(np.asarray(jax.jit(jax.hessian(loss))(flat), float))[-1])

    edge = names["at_the_edge"](params, rows, 2 / top)
    names["check"](params, rows, 1.9 / top)

    np.testing.assert_allclose([edge.sharpness, edge.ratio], [top, 1], rtol=1e-3)
    assert edge.place == "at"
    assert names["at_the_edge"](params, rows, 2 / top, momentum=0.9).place == "below"
    assert "at the edge: sharpness" in capsys.readouterr().out
    with pytest.raises(ValueError, match="above the limit") as refused:
        names["check"](params, rows, 3 / top)
    allowed = float(re.findall(r"at most ([\d.]+)", str(refused.value))[0])
    np.testing.assert_allclose(allowed, 2 / top, rtol=2e-3)


@pytest.mark.slow
def test_the_readme_trains_with_sam_and_says_what_the_rank_is() -> None:
    """Against both passes written out, and NumPy's singular values."""
    names, random, rho = names_of(RANK), np.random.default_rng(0), 0.3
    shapes = {"kernel_0": (3, 8), "bias_0": (8,), "kernel_1": (8, 2)}
    params = {name: np.float32(random.normal(size=s)) for name, s in shapes.items()}
    x = random.normal(size=(20, 3)).astype(np.float32)
    batches = [{"x": x[i : i + 10], "y": x[i : i + 10, :2]} for i in (0, 10)]

    after, ranks = names["train_and_rank"](params, batches, x, rho, optax.sgd(0.1))

    gradient = jax.jit(jax.grad(lambda params, batch: names["loss"](params, {}, batch, None)[0]))
    wanted: dict[str, Any] = dict(params)
    for batch in batches:
        up = gradient(wanted, batch)
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in up.values()))
        grads = gradient({k: wanted[k] + rho * up[k] / norm for k in up}, batch)
        wanted = {k: wanted[k] - 0.1 * grads[k] for k in up}
    for name in params:  # a few roundings of float32
        np.testing.assert_allclose(after[name], wanted[name], rtol=1e-4, atol=1e-5)
    after = {name: np.asarray(leaf, float) for name, leaf in after.items()}
    seen = np.maximum(x @ after["kernel_0"] + after["bias_0"], 0)
    energies = np.linalg.svd(seen - seen.mean(1, keepdims=True), compute_uv=False) ** 2
    assert ranks.features.rank == 1 + np.sum(np.cumsum(energies) <= 0.99 * energies.sum())
    assert (ranks.n, ranks.d) == (20, 8)
