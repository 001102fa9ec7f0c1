"""The README of this topic does what it says: pictures and numbers of a stranger's networks."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from tests.processes import REPOSITORY

README = (REPOSITORY / "landscape/README.md").read_text()
PLAIN, FLAX, EDGE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def names_of(code: str) -> dict[str, Any]:
    """Returns what an example defines; it is to be short, imports aside."""
    lines = [line for line in code.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import", "from"))]) <= 15
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def sharpness_of(matrix: np.ndarray, params: Any) -> float:
    """Returns sum_f ||theta_f||^2 tr(H_ff) / n_f over the columns f of kernels."""
    _, unravel = ravel_pytree(params)
    diagonal = unravel(jnp.asarray(np.diagonal(matrix), jnp.float32))
    kernels = [name for name in params if name.startswith("kernel")]
    pairs = [(np.asarray(params[name]), np.asarray(diagonal[name])) for name in kernels]
    return sum(float(np.sum((w**2).sum(0) * h.mean(0))) for w, h in pairs)


def test_the_readme_looks_at_a_network_in_plain_jax(tmp_path: Path) -> None:
    names, random = names_of(PLAIN), np.random.default_rng(0)
    shapes = {"kernel_0": (3, 4), "bias_0": (4,), "kernel_1": (4, 2)}
    params = {name: jnp.asarray(random.normal(size=s), jnp.float32) for name, s in shapes.items()}
    x = random.normal(size=(20, 3))
    batch = {"x": np.float32(x), "y": np.float32(x[:, :2])}
    file = tmp_path / "plain.png"

    found, values, residuals, sharp = names["look_at"](params, batch, file)

    flat, unravel = ravel_pytree(params)
    loss = lambda vector: names["loss"](unravel(vector), batch)
    matrix = np.asarray(jax.jit(jax.hessian(loss))(flat), float)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    # Products in float32: a few units in the last place of the largest eigenvalue.
    np.testing.assert_allclose(values, expected[:5], atol=1e-5 * expected[0])
    assert residuals.max() < 1e-3 * expected[0]
    np.testing.assert_allclose(found.values["loss"][12, 12], jax.jit(loss)(flat), rtol=1e-6)
    assert abs(sharp.value - sharpness_of(matrix, params)) < 4 * sharp.stderr
    assert file.stat().st_size > 10_000


class StrangersNetwork(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        return nn.Dense(3)(nn.relu(x))


def test_the_readme_looks_at_a_network_in_flax(tmp_path: Path) -> None:
    names, model = names_of(FLAX), StrangersNetwork()
    random = np.random.default_rng(1)
    image = np.float32(random.normal(size=(30, 5)))
    rows = {"image": image, "label": random.integers(0, 3, 30)}
    variables = jax.jit(model.init)(jax.random.key(0), image)
    # Statistics that are not those a fresh network has: a random direction would change them.
    variables["batch_stats"]["BatchNorm_0"]["var"] *= 3.0

    found, values, _, sharp = names["look_at"](model, variables, rows, tmp_path / "flax.png")

    flat, unravel = ravel_pytree(variables["params"])

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
    params = {name: jnp.asarray(random.normal(size=s), jnp.float32) for name, s in shapes.items()}
    x = random.normal(size=(20, 3)).astype(np.float32)
    rows = [{"x": x[i : i + 10], "y": x[i : i + 10, :2]} for i in (0, 10)]
    flat, unravel = ravel_pytree(params)
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
