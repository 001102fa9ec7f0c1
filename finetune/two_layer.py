"""Networks of two layers f(x) = v . phi(B x): which of the layers a shift asks for, exactly.

    limit = both_layers_limit(v, b, target=-1.0)      # of gradient flow on one example
    flow = gradient_flow(network, inputs, targets, tune="both", times=...)

A shift of the input is undone by the first layer and in general not by the last; a shift of the
label is undone by the last, and with ReLU in general not by the first. Of few examples, gradient
flow on both layers goes wrong in the directions that they do not show, and gradient flow on the
first layer does not. Everything here is float64 on the host.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.integrate import solve_ivp

TUNED = ("first", "last", "both")
Matrix = Float64[np.ndarray, "k d"]
Vector = Float64[np.ndarray, " k"]
Rows = Float64[np.ndarray, "n d"]


class TwoLayer(NamedTuple):
    """v and B of f(x) = v . phi(B x)."""

    v: Vector
    b: Matrix


class Flow(NamedTuple):
    """A gradient flow at some times.

    Attributes:
        times: Ascending, from 0.
        v: Last layers [t, k].
        b: First layers [t, k, d].
    """

    times: np.ndarray
    v: np.ndarray
    b: np.ndarray

    @property
    def end(self) -> TwoLayer:
        """Returns the network at the last time."""
        return TwoLayer(self.v[-1], self.b[-1])


class Problem(NamedTuple):
    """A linear source network and a target that differs from it in a few directions only.

    Attributes:
        network: Of the source.
        inputs: Training inputs of the target.
        targets: Their labels.
        truth: Coefficients w of the target, y = w . x.
    """

    network: TwoLayer
    inputs: Rows
    targets: np.ndarray
    truth: np.ndarray


def outputs(network: TwoLayer, inputs: Rows, *, relu: bool = False) -> np.ndarray:
    """Returns f of every row."""
    hidden = inputs @ network.b.T
    return (np.maximum(hidden, 0) if relu else hidden) @ network.v


def first_layer_for_inputs(network: TwoLayer, matrix: Float64[np.ndarray, "d d"]) -> TwoLayer:
    """Returns the network that gives on A x what the old one gives on x: B A^-1, and v as it was.

    Source: Lee et al. (2023), Prop. 1; the construction was derived anew.
    """
    return network._replace(b=network.b @ np.linalg.inv(matrix))


def last_layer_for_labels(network: TwoLayer, factor: float) -> TwoLayer:
    """Returns the network whose outputs are multiplied by t: t v, and B as it was.

    Source: Lee et al. (2023), Prop. 2; the construction was derived anew.
    """
    return network._replace(v=factor * network.v)


def last_layer_loss(
    network: TwoLayer, inputs: Rows, targets: np.ndarray, *, relu: bool = True
) -> float:
    """Returns the least mean of r^2 / 2 that any last layer reaches: that of least squares.

    Source: Lee et al. (2023), Prop. 1: no last layer undoes a shift of the input in general.
    """
    hidden = inputs @ network.b.T
    hidden = np.maximum(hidden, 0) if relu else hidden
    best = np.linalg.lstsq(hidden, targets, rcond=None)[0]
    return float(np.mean((hidden @ best - targets) ** 2) / 2)


def first_layer_loss(network: TwoLayer, targets: np.ndarray) -> float:
    """Returns the least mean of r^2 / 2 of any first layer, for v >= 0, ReLU and targets <= 0.

    Outputs are then at least 0, so that the best first layer gives 0 everywhere.

    Source: Lee et al. (2023), Prop. 2: a first layer may not undo a shift of the label.

    Raises:
        ValueError: If v or targets have the other sign.
    """
    if (network.v < 0).any() or (targets > 0).any():
        raise ValueError("first_layer_loss: expected v >= 0 and targets <= 0 in every entry")
    return float(np.mean(targets**2) / 2)


def gradients(
    network: TwoLayer, inputs: Rows, targets: np.ndarray, *, relu: bool = False
) -> TwoLayer:
    """Returns the gradients of the mean of r^2 / 2, r = f(x) - y, by v and by B."""
    hidden = inputs @ network.b.T  # [n, k]
    active = (hidden > 0).astype(float) if relu else np.ones_like(hidden)
    error = (hidden * active) @ network.v - targets
    by_v = (hidden * active).T @ error / len(inputs)
    by_b = (active * (error[:, None] * network.v[None])).T @ inputs / len(inputs)
    return TwoLayer(by_v, by_b)


def gradient_flow(
    network: TwoLayer,
    inputs: Rows,
    targets: np.ndarray,
    *,
    tune: str,
    times: Sequence[float] | np.ndarray,
) -> Flow:
    """Returns v' = -dL/dv and B' = -dL/dB, or one of them, integrated to a tolerance of 1e-10.

    Of linear networks; that of ReLU has kinks.

    Source: Lee et al. (2023), Thm. 1: gradient flow on the first layer, and on both.

    Raises:
        ValueError: If there is no such choice of layers, or there are no examples.
    """
    if tune not in TUNED:
        raise ValueError(f"tune={tune!r}: expected one of {', '.join(TUNED)}")
    if not len(inputs):
        raise ValueError("gradient_flow: the target set is empty; expected at least one example")
    k, d = network.b.shape
    moves_v, moves_b = (float(tune in (name, "both")) for name in ("last", "first"))

    def velocity(_: float, state: np.ndarray) -> np.ndarray:
        now = TwoLayer(state[:k], state[k:].reshape(k, d))
        slope = gradients(now, inputs, targets)
        return -np.concatenate([moves_v * slope.v, moves_b * slope.b.reshape(-1)])

    start = np.concatenate([network.v, network.b.reshape(-1)])
    span = (0.0, float(times[-1]))
    found = solve_ivp(
        velocity, span, start, method="DOP853", t_eval=times, rtol=1e-10, atol=1e-12
    ).y.T
    return Flow(np.asarray(times), found[:, :k], found[:, k:].reshape(-1, k, d))


def conserved(network: TwoLayer) -> np.ndarray:
    """Returns v v^T - B B^T, which gradient flow on both layers of a linear network keeps.

    Source: Lee et al. (2023), Thm. 1; the invariant is that of Arora et al. (2018).
    """
    return np.outer(network.v, network.v) - network.b @ network.b.T


def first_layer_limit(v: Vector, b: Vector, target: float) -> Vector:
    """Returns where b = B x goes when only B follows the gradient, on one x of length 1.

    It moves along v until v . b is the label; B e of every e orthogonal to x stays.

    Source: Lee et al. (2023), Thm. 1, in closed form, derived anew.
    """
    return b + (target - v @ b) / (v @ v) * v


def both_layers_limit(v: Vector, b: Vector, target: float) -> tuple[Vector, Vector]:
    """Returns where v and b = B x go when both layers follow the gradient, on one x of length 1.

    p = v + b and q = v - b obey p' = -r p and q' = r q, so p = s p0 and q = q0 / s. The limit is
    the s at which v . b = (s^2 |p0|^2 - |q0|^2 / s^2) / 4 is the label.

    Source: Lee et al. (2023), Thm. 1, in closed form, derived anew.
    """
    p, q = v + b, v - b
    s = np.sqrt(limit_squared(v, b, target))
    return (s * p + q / s) / 2, (s * p - q / s) / 2


def limit_squared(v: Vector, b: Vector, target: float) -> float:
    """Returns s^2 of `both_layers_limit`, the positive root of |p0|^2 s^4 - 4 y s^2 = |q0|^2.

    Source: Lee et al. (2023), Thm. 1, in closed form, derived anew: 1/5 for its smallest case.

    Raises:
        ValueError: If v = -b, where p is 0 and stays so.
    """
    p, q = (v + b) @ (v + b), (v - b) @ (v - b)
    if not p > 0:
        raise ValueError("both_layers_limit: v = -b, so that p = v + b is 0 and has no direction")
    return float((2 * target + np.sqrt(4 * target**2 + p * q)) / p)


def target_loss(network: TwoLayer, truth: np.ndarray) -> float:
    """Returns the mean of r^2 / 2 over inputs of covariance 1, of a linear network."""
    return float(np.sum((network.v @ network.b - truth) ** 2) / 2)


def smallest_case() -> Problem:
    """Returns f(x) = x_1 + x_2 whose first input changes its sign, shown on one example.

    Source: Lee et al. (2023), Thm. 1; the case was derived anew.
    """
    network = TwoLayer(np.ones(2), np.eye(2))
    return Problem(network, np.eye(2)[:1], np.asarray([-1.0]), np.asarray([-1.0, 1.0]))


def random_case(seed: int, *, dimension: int, shown: int) -> Problem:
    """Returns a random linear network, and a target reflected in a few random directions.

    Inputs of the target are x - 2 P x, P the projection on `shown` random directions, and these are
    the training examples; all other directions are those of the source.

    Source: Lee et al. (2023), Thm. 1: "n small" against the dimension.

    Raises:
        ValueError: If all directions are shown.
    """
    if not 0 < shown < dimension:
        raise ValueError(f"shown={shown}: expected 1 to {dimension - 1} of {dimension} directions")
    random = np.random.default_rng((seed, dimension, shown))
    directions, _ = np.linalg.qr(random.normal(size=(dimension, dimension)))
    b = np.linalg.qr(random.normal(size=(dimension, dimension)))[0]
    network = TwoLayer(random.normal(size=dimension), b)
    inputs = directions.T[:shown]
    source = network.v @ network.b
    truth = source - 2 * inputs.T @ (inputs @ source)
    return Problem(network, inputs, inputs @ truth, truth)
