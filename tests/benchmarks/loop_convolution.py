"""Gradients and Hessian products of convolutions inside `lax.scan`: ours against those of JAX.

    python -m tests.benchmarks.loop_convolution --out=results/loop_convolution.json
    python -m tests.benchmarks.loop_convolution --out=results/loop_convolution.json --markdown

A step is value and both gradients of one convolution, or a product with its Hessian. All ways are
compiled, in one process and in turns; the least time of a step counts. "top level" is JAX's own
convolution in a program without a loop, called from Python.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax

from common.nets.convolution import conv_general_dilated
from tests.measurements import in_turns, record

ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns of every way", lower_bound=1)

STEPS = 4  # in a loop
WAYS = ("JAX, top level", "JAX, in scan", "ours, in scan")
KINDS = ("gradient", "Hessian product")


class Shape(NamedTuple):
    """Images [batch, size, size, c_in] and a 3x3 kernel to c_out channels."""

    batch: int
    size: int
    c_in: int
    c_out: int
    stride: int

    def __str__(self) -> str:
        strided = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.batch} x {self.size}x{self.size}, {self.c_in} to {self.c_out}{strided}"


SHAPES = (Shape(64, 16, 16, 16, 1), Shape(64, 16, 16, 32, 2), Shape(64, 8, 64, 64, 1))


def step(convolve: Callable[..., jax.Array], shape: Shape, kind: str) -> Callable[..., Any]:
    """Returns (images, kernel) -> the same, a little further; nothing of the work is left out."""

    def loss(pair: Any) -> jax.Array:
        strides, order = (shape.stride, shape.stride), ("NHWC", "HWIO", "NHWC")
        return jnp.mean(jnp.tanh(convolve(*pair, strides, "SAME", dimension_numbers=order)) ** 2)

    def one(pair: Any) -> Any:
        if kind == "gradient":
            found = jax.grad(loss)(pair)
        else:
            found = jax.jvp(jax.grad(loss), (pair,), (pair,))[1]
        return jax.tree.map(lambda x, g: x - 1e-3 * g, pair, found)

    return one


def ways(shape: Shape, kind: str) -> dict[str, Callable[[Any], Any]]:
    """Returns the compiled ways to make `STEPS` steps."""
    theirs, ours = (step(c, shape, kind) for c in (lax.conv_general_dilated, conv_general_dilated))
    single = jax.jit(theirs)

    def called(pair: Any) -> Any:
        for _ in range(STEPS):
            pair = single(pair)
        return pair

    def scanned(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return jax.jit(lambda pair: lax.scan(lambda p, _: (one(p), None), pair, length=STEPS)[0])

    return dict(zip(WAYS, (called, scanned(theirs), scanned(ours)), strict=True))


def measure(shape: Shape, kind: str) -> dict[str, float]:
    """Returns milliseconds of a step by way."""
    draw = np.random.default_rng(0).normal
    x = draw(size=(shape.batch, shape.size, shape.size, shape.c_in))
    pair = (x, draw(size=(3, 3, shape.c_in, shape.c_out)) / (9 * shape.c_in) ** 0.5)
    pair = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), pair)
    times = in_turns(ways(shape, kind), pair, rounds=ROUNDS.value)
    return {name: ms / STEPS for name, ms in times.items()}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    lines = [
        f"{result['environment']['cpu']}, float32, ms a step, least of {result['rounds']} rounds.",
        "",
        f"| step | {' | '.join(WAYS)} | gain in scan | of top level |",
        "|---|" + "---|" * (len(WAYS) + 2),
    ]
    for row in result["rows"]:
        top, slow, fast = (row["ms"][name] for name in WAYS)
        times = " | ".join(f"{row['ms'][name]:.3g}" for name in WAYS)
        name = f"{row['kind']}, {row['shape']}"
        lines.append(f"| {name} | {times} | {slow / fast:.1f}x | {top / fast:.2f} |")
    return "\n".join(lines)


def measure_all() -> dict[str, Any]:
    """Returns the times of all shapes."""
    rows = [
        {"kind": kind, "shape": str(shape), "ms": measure(shape, kind)}
        for kind in KINDS
        for shape in SHAPES
    ]
    return {"rows": rows, "rounds": ROUNDS.value}


def main(_: list[str]) -> None:
    """Measures all shapes, or prints an earlier measurement."""
    record("loop_convolution", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
