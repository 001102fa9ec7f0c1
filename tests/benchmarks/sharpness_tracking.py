"""What it costs to follow the sharpness of full-batch training, every 10 updates, on this machine.

    python -m tests.benchmarks.sharpness_tracking --out=results/sharpness_tracking.json
    python -m tests.benchmarks.sharpness_tracking --out=results/sharpness_tracking.json --markdown

A run with `tracking.tracked_step` and the same run without, a step of each in turns, in CPU time of
one process; what counts is the least of the last half of the steps, and of ARPACK (`eigsh` of scipy
on compiled Hessian products, one eigenvalue, its own tolerance), which is asked at a few points of
the run, the mean of all points. Errors are relative to ARPACK's eigenvalues.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax import lax
from scipy.sparse.linalg import LinearOperator, eigsh

from common.data.images import downsample, load_images
from common.nets.convolution import convolution
from common.nets.mlp import init_mlp, mlp
from common.steps import gradient_step, init_train_state
from landscape.stability import limit
from landscape.tracking import init_tracked_state, tracked_step
from landscape.vectors import layout_of, to_direction, to_vector
from tests.measurements import record

POINTS = flags.DEFINE_integer("points", 5, "Where ARPACK is asked", lower_bound=1)

EVERY = 10
COLUMNS = (
    "network",
    "images, updates",
    "ms an update",
    "tracking costs",
    "products",
    "error, largest",
    "within residual",
    "ARPACK, products",
    "ARPACK, in updates",
)
CHANNELS = 32


class Case(NamedTuple):
    """A network with a learning rate at which it reaches the edge of stability.

    Attributes:
        init: key -> parameters.
        apply: (parameters, images) -> outputs.
        learning_rate: Of gradient descent.
        images: Of Fashion-MNIST, averaged to 14 x 14.
        steps: Of `EVERY` updates each.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]
    learning_rate: float
    images: int
    steps: int


def init_convnet(key: jax.Array) -> Any:
    """Returns two kernels 3x3 and the layer behind them."""
    keys = jax.random.split(key, 3)
    kernel = lambda key, c_in: jax.random.normal(key, (3, 3, c_in, CHANNELS)) / (9 * c_in) ** 0.5
    return kernel(keys[0], 1), kernel(keys[1], CHANNELS), init_mlp(keys[2], (9 * CHANNELS, 10))


def convnet(params: Any, x: jax.Array) -> jax.Array:
    """Returns the outputs: convolutions, tanh and 2x2 means twice, then a dense layer."""
    *kernels, head = params
    x = x.reshape(-1, 14, 14, 1)
    for kernel in kernels:
        x = jnp.tanh(convolution(x, kernel))
        n, h, w, c = x.shape
        x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    return mlp(head, x.reshape(len(x), -1))


CASES = {
    "dense 196-64-64-10, tanh": Case(
        partial(init_mlp, sizes=(196, 64, 64, 10)), partial(mlp, activation=jnp.tanh), 0.1, 500, 100
    ),
    "convolutions 3x3, 32 and 32 channels, tanh": Case(init_convnet, convnet, 0.1, 100, 30),
}


def images(count: int) -> dict[str, jax.Array]:
    """Returns standardized images, and one-hot labels."""
    found = load_images("fashion_mnist", "embedded")
    x = downsample(found.train_images[:count], 14).reshape(count, -1).astype(np.float32)
    x = (x - x.mean(axis=0, keepdims=True)) / (x.std(axis=0, keepdims=True) + 1)
    return {"x": jnp.asarray(x), "y": jnp.eye(10)[found.train_labels[:count]]}


def measure(case: Case) -> dict[str, Any]:
    """Returns CPU milliseconds of a step with and without tracking, and of ARPACK at a point."""
    data, optimizer = images(case.images), optax.sgd(case.learning_rate)

    def loss(params: Any, data: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        del batch, key
        error = case.apply(params, data["x"]) - data["y"]
        return jnp.mean(jnp.sum(error**2, axis=1)) / 2, {}

    update = gradient_step(loss, optimizer)

    def untracked(state: Any, data: Any, batch: Any, key: jax.Array) -> tuple[Any, Any]:
        again = lambda state, key: update(state, data, batch, key)
        return lax.scan(again, state, jax.random.split(key, EVERY))

    tracked = tracked_step(loss, optimizer, every=EVERY, limit=limit(case.learning_rate))
    key = jax.random.key(0)
    plain = init_train_state(case.init(key), optimizer)
    states = {"tracked": init_tracked_state(key, plain), "untracked": plain}
    steps = {"tracked": jax.jit(tracked), "untracked": jax.jit(untracked)}
    times: dict[str, list[float]] = {"tracked": [], "untracked": [], "arpack": []}
    rows, products, found = [], [], {}
    asked = set(np.linspace(case.steps // 6, case.steps - 1, POINTS.value, dtype=int).tolist())
    product = jax.jit(partial(_product, loss))
    for i in range(case.steps):
        before = states["tracked"].params
        for name, step in steps.items():
            spent, (states[name], metrics) = _spent(partial(step, states[name], data, {}, key))
            times[name].append(spent)
            if name == "tracked":
                products.append(int(metrics["sharpness_products"]))
                found = {name: float(value) for name, value in metrics.items()}
        if i in asked:
            spent, (value, calls) = _spent(partial(_arpack, product, before, data))
            times["arpack"].append(spent)
            rows.append({"step": i, "arpack": value, "arpack_products": calls, **found})
    half = case.steps // 2
    least = {name: min(times[name][half:]) for name in steps}
    per_update = least["untracked"] / EVERY
    return {
        "ms": {**least, "arpack": float(np.mean(times["arpack"][1:] or times["arpack"]))},
        "products": float(np.mean(products[half:])),
        "cost": float(np.median(_ratio(times, half))) - 1,
        "arpack_updates": float(np.mean(times["arpack"][1:] or times["arpack"])) / per_update,
        "rows": rows,
        "images": case.images,
        "steps": case.steps,
    }


def _ratio(times: Mapping[str, list[float]], half: int) -> np.ndarray:
    """Returns tracked / untracked of every pair of steps that followed one another."""
    return np.array(times["tracked"][half:]) / np.array(times["untracked"][half:])


def _product(loss: Any, params: Any, data: Any, vector: jax.Array) -> jax.Array:
    layout = layout_of(params)
    gradient = jax.grad(lambda params: loss(params, data, {}, None)[0])
    return to_vector(layout, jax.jvp(gradient, (params,), (to_direction(layout, vector),))[1])


def _arpack(product: Any, params: Any, data: Any) -> tuple[float, int]:
    """Returns the largest eigenvalue, and how many products it took."""
    size, calls = layout_of(params).size, 0

    def apply(vector: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.asarray(product(params, data, jnp.asarray(vector.ravel(), jnp.float32)))

    shape: Any = {"shape": (size, size), "matvec": apply, "dtype": np.float32}
    operator = LinearOperator(**shape)
    return float(eigsh(operator, 1, which="LA", return_eigenvectors=False)[0]), calls


def _spent(run: Callable[[], Any]) -> tuple[float, Any]:
    """Returns milliseconds of CPU, and the result."""
    start = time.process_time()
    result = jax.block_until_ready(run())
    return 1e3 * (time.process_time() - start), result


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    lines = [
        f"{result['environment']['cpu']}, float32, full batch, CPU time of one process; tracked "
        f"every {EVERY} updates.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|" + "---|" * (len(COLUMNS) - 1),
    ]
    for name, case in result["cases"].items():
        gaps = [abs(row["sharpness"] - row["arpack"]) for row in case["rows"]]
        pairs = list(zip(gaps, case["rows"], strict=True))
        error = max(gap / row["arpack"] for gap, row in pairs)
        inside = sum(gap <= row["sharpness_residual"] for gap, row in pairs)
        calls = np.mean([row["arpack_products"] for row in case["rows"]])
        cells = (
            name,
            f"{case['images']}, {EVERY * case['steps']:,}",
            f"{case['ms']['untracked'] / EVERY:.3g}",
            f"{case['cost']:.0%}",
            f"{case['products']:.1f}",
            f"{error:.1%}",
            f"{inside} of {len(gaps)}",
            f"{calls:.0f}",
            f"{case['arpack_updates']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measure_all() -> dict[str, Any]:
    """Returns what was measured of all networks."""
    return {"cases": {name: measure(case) for name, case in CASES.items()}}


def main(_: list[str]) -> None:
    """Measures all networks, or prints an earlier measurement."""
    record("sharpness_tracking", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
