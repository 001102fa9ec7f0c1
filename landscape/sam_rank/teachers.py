"""Teacher and student: points on the unit sphere, labeled by a small network of the same kind."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from landscape.sam_rank.networks import TwoLayer, two_layer

PyTree = Any
GOLDEN = Path(__file__).parent / "golden.npz"


class ProblemSpec(NamedTuple):
    """A problem of `draw_problem`.

    Attributes:
        kind: "random", or "golden" for the numbers of `golden`, whatever the key.
        num_train: Training points.
        num_test: Test points.
        dimension: Of the space whose unit sphere they lie on.
        teacher_units: Units of the network that labels them.
        activation: Of the teacher, as of its student.
        version: Raised when one of them changes.
    """

    kind: str
    num_train: int
    num_test: int
    dimension: int
    teacher_units: int
    activation: str
    version: int = 1


class Golden(NamedTuple):
    """What the authors' random generators gave their recorded runs, at seed 4.

    Attributes:
        problem: As `draw_problem` returns it.
        student: Parameters of 100 units.
        index: The training point of every step.
    """

    problem: PyTree
    student: TwoLayer
    index: np.ndarray


def draw_problem(key: PRNGKeyArray, spec: ProblemSpec) -> PyTree:
    """Returns {"train" | "test": {"input": [n, d], "target": [n]}} of a teacher of its own.

    Source: Andriushchenko et al. (2023), released code of two-layer networks: Gaussian points on
    the unit sphere; a teacher with units on the sphere, output weights +1 or -1, biases N(0, 1).
    """
    key_train, key_test, *keys = jax.random.split(key, 6)
    units = spec.teacher_units
    w, b, a, c = (
        jax.random.normal(k, shape)
        for k, shape in zip(keys, ((units, spec.dimension), (units,), (units,), ()), strict=True)
    )
    teacher = TwoLayer(on_sphere(w), b, jnp.sign(a), c)
    points = {"train": (key_train, spec.num_train), "test": (key_test, spec.num_test)}
    inputs = {
        part: on_sphere(jax.random.normal(k, (n, spec.dimension)))
        for part, (k, n) in points.items()
    }
    return labeled(inputs, teacher, spec.activation)


def on_sphere(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Returns rows of length 1."""
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def labeled(inputs: PyTree, teacher: TwoLayer, activation: str) -> PyTree:
    """Returns the parts of a problem with the outputs of its teacher."""
    return {
        part: {"input": x, "target": two_layer(teacher, x, activation)}
        for part, x in inputs.items()
    }


@cache
def golden_arrays() -> dict[str, np.ndarray]:
    """Returns the arrays of the file: draws of NumPy's and PyTorch's generators at seed 4."""
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return dict(arrays)


def golden(activation: str, scale: float) -> Golden:
    """Returns the problem, student and examples of the authors' recorded runs.

    Source: Andriushchenko et al. (2023), notebook of two-layer networks. All of it is in float32
    there, the student's parameters times their scale too; wider floats hold the same numbers.
    """
    arrays = golden_arrays()
    place = lambda x: jnp.asarray(np.asarray(x, np.float32), jnp.result_type(float))
    problem = {
        part: {
            "input": place(arrays[f"{part}_input"]),
            "target": place(arrays[f"{part}_target_{activation}"]),
        }
        for part in ("train", "test")
    }
    draws = (arrays[f"student_{letter}"] for letter in TwoLayer._fields)
    student = TwoLayer(*(place(np.float32(scale) * draw) for draw in draws))
    return Golden(problem, student, arrays["index"].astype(np.int32))
