"""Gradients and Hessian products of convolutions inside `lax.scan`: ours against those of JAX.

    python -m tests.benchmarks.loop_convolution --out=results/loop_convolution.json
    python -m tests.benchmarks.loop_convolution --out=results/loop_convolution.json --markdown

A step is value and both gradients of one convolution, or a product with its Hessian. All ways are
compiled, in one process and in turns; the least time of a step counts. "top level" is JAX's own
convolution in a program without a loop, called from Python.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax

from common.nets.convolution import conv_general_dilated
from common.provenance.environment import environment

OUT = flags.DEFINE_string("out", None, "JSON file to write; with --markdown to read", required=True)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns of every way", lower_bound=1)
MARKDOWN = flags.DEFINE_boolean("markdown", False, "Print the table of an earlier measurement")

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
    programs = ways(shape, kind)
    best: dict[str, float] = {}
    for turn in range(ROUNDS.value + 1):
        for name, run in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(pair))
            took = 1e3 * (time.perf_counter() - start) / STEPS
            if turn:  # the first one compiles
                best[name] = min(took, best.get(name, took))
    return best


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


def main(_: list[str]) -> None:
    """Measures all shapes, or prints an earlier measurement."""
    if MARKDOWN.value:
        print(markdown(json.loads(Path(OUT.value).read_text())))
        return
    rows = []
    for kind in KINDS:
        for shape in SHAPES:
            rows.append({"kind": kind, "shape": str(shape), "ms": measure(shape, kind)})
    command = ["python", "-m", "tests.benchmarks.loop_convolution"]
    result = {"rows": rows, "rounds": ROUNDS.value, "environment": environment(command)}
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Path(OUT.value).write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    app.run(main)
