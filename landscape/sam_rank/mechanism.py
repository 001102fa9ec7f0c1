"""What one step of SAM does to a two-layer ReLU network, in closed form.

With r_i = f(x_i) - y_i the loss is L = mean_i r_i^2, and its gradient sum_i q_i grad f(x_i) with
q_i = 2 r_i / n. As long as the ascent switches no unit on or off at any example, the network at the
worst point is a polynomial of the radius rho (`exact_gradient`). To first order in rho the gradient
there has two parts (`first_order`): one is a gradient of the data fit with other residuals, the
other one fits nothing. Of a single example it lowers every active pre-activation (`drops`) and
shrinks every active output weight, which is why SAM switches units off.

Biases of the units are weights of an input that is always 1: x~ = (x, 1), |x~|^2 = |x|^2 + 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from common import precision
from landscape.sam_rank.networks import TwoLayer, pre_activations


class Forward(NamedTuple):
    """What the closed forms are made of.

    Attributes:
        x: Inputs with a 1 at their end: [n, d + 1].
        z: Pre-activations.
        on: Whether they are positive.
        f: Outputs.
        q: 2 r / n, the derivatives of the loss in the outputs.
    """

    x: Float[Array, "n d1"]
    z: Float[Array, "n units"]
    on: Bool[Array, "n units"]
    f: Float[Array, " n"]
    q: Float[Array, " n"]


class Parts(NamedTuple):
    """A gradient as the sum of two: that of the data fit, and what regularizes."""

    fit: TwoLayer
    regularization: TwoLayer


def forward(params: TwoLayer, x: Float[Array, "n d"], y: Float[Array, " n"]) -> Forward:
    """Returns pre-activations, outputs and what the loss asks of them."""
    z = pre_activations(params, x)
    on = z > 0
    f = jnp.where(on, z, 0) @ params.a + params.c
    ones = jnp.ones((len(x), 1), x.dtype)
    return Forward(jnp.concatenate([x, ones], axis=1), z, on, f, 2 * (f - y) / len(x))


def direction(params: TwoLayer, of: Forward) -> TwoLayer:
    """Returns the gradient of the loss over its norm, 0 where it vanishes: where SAM climbs."""
    gradient = _pulled_back(of, of.q, params.a, jnp.where(of.on, of.z, 0))
    norm = precision.norm(gradient)
    return jax.tree.map(lambda g: jnp.where(norm > 0, g / norm, 0), gradient)


def exact_gradient(
    params: TwoLayer, x: Float[Array, "n d"], y: Float[Array, " n"], rho: float | Array
) -> TwoLayer:
    """Returns the gradient of the mean squared error at the worst point of a ball, of any batch.

    Exact where no unit is switched (`switches`). With v = direction, of weights v_w, v_b, v_a, v_c,

        z~_ij = z_ij + rho <(v_w, v_b)_j, x~_i>       a~ = a + rho v_a
        r~_i  = r_i + rho <grad f(x_i), v> + rho^2 sum_j [z_ij > 0] v_aj <(v_w, v_b)_j, x~_i>
        grad  = 2/n sum_i r~_i ([z_ij > 0] a~_j x~_i,  [z_ij > 0] z~_ij,  1)

    Source: Andriushchenko et al. (2023), Sec. 5, its exact form derived anew. A single example has
    v = sign(r) grad f / |grad f|, so that r~ = r + rho sign(r) |grad f| + rho^2 |x~|^2 (f - c) /
    |grad f|^2. Of a batch in which every example climbs by itself (m-sharpness of m = 1) it is the
    mean of single ones.
    """
    of = forward(params, x, y)
    v = direction(params, of)
    slope, curve = _along(params, of, v)
    q = of.q + 2 / len(x) * (rho * slope + rho**2 * curve)
    z = jnp.where(of.on, of.z + rho * _moved(of, v), 0)
    return _pulled_back(of, q, params.a + rho * v.a, z)


def first_order(
    params: TwoLayer, x: Float[Array, "n d"], y: Float[Array, " n"], rho: float | Array
) -> Parts:
    """Returns the two parts of SAM's gradient; their sum is off by O(rho^2).

    Source: Andriushchenko et al. (2023), Sec. 5, its decomposition, derived anew.

        fit            = 2/n sum_i (r_i + rho <grad f(x_i), v>) grad f(x_i)
        regularization = 2/n rho sum_i r_i H_i v

    with H_i the Hessian of f in the parameters, which couples w_j and a_j only. A single example
    has fit = (1 + rho |grad f| / |r|) grad L, a longer step, and regularization = 2 rho |r| /
    |grad f| ([z_j > 0] z_j x~, [z_j > 0] |x~|^2 a_j, 0). Of a batch it has no sign.
    """
    of = forward(params, x, y)
    v = direction(params, of)
    slope, _ = _along(params, of, v)
    active = jnp.where(of.on, of.z, 0)
    fit = _pulled_back(of, of.q + 2 / len(x) * rho * slope, params.a, active)
    moved = jnp.where(of.on, _moved(of, v), 0)
    bent = _pulled_back(of, rho * of.q, v.a, moved)
    return Parts(fit, bent._replace(c=jnp.zeros_like(params.c)))


def drops(
    params: TwoLayer, x: Float[Array, "n d"], y: Float[Array, " n"], rho: float | Array
) -> Float[Array, "n units"]:
    """Returns by how much one step on example i lowers z_ij, over the learning rate.

    Source: Andriushchenko et al. (2023), Sec. 5: 2 rho |r| / |grad f| z |x~|^2 of active units, 0
    of the others. It is the regularization of `first_order`, of every example by itself.
    """
    of = forward(params, x, y)
    lengths = jnp.sum(of.x**2, axis=1)
    active = jnp.where(of.on, of.z, 0)
    square = jnp.sum(active**2, axis=1) + lengths * (of.on @ params.a**2) + 1
    strength = 2 * rho * jnp.abs(of.f - y) * lengths * jax.lax.rsqrt(square)
    return strength[:, None] * active


def changes(of: Forward, gradient: TwoLayer) -> Float[Array, "n units"]:
    """Returns by how much a step along -gradient changes pre-activations, over the rate."""
    return -(of.x[:, :-1] @ gradient.w.T + gradient.b[None])


def switches(
    params: TwoLayer, x: Float[Array, "n d"], y: Float[Array, " n"], rho: float | Array
) -> Bool[Array, ""]:
    """Returns whether the ascent switches a unit on or off at some example of the batch."""
    of = forward(params, x, y)
    moved = of.z + rho * _moved(of, direction(params, of))
    return jnp.any((moved > 0) != of.on)


def _moved(of: Forward, v: TwoLayer) -> Float[Array, "n units"]:
    """Returns <(v_w, v_b)_j, x~_i>."""
    return -changes(of, v)


def _along(
    params: TwoLayer, of: Forward, v: TwoLayer
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Returns the first and half the second derivative of every output along v."""
    moved = jnp.where(of.on, _moved(of, v), 0)
    return moved @ params.a + jnp.where(of.on, of.z, 0) @ v.a + v.c, moved @ v.a


def _pulled_back(
    of: Forward, q: Float[Array, " n"], a: Float[Array, " units"], z: Float[Array, "n units"]
) -> TwoLayer:
    """Returns sum_i q_i ([z_ij > 0] a_j x~_i, z_ij, 1)."""
    weights = (q[:, None] * of.on * a[None]).T @ of.x
    return TwoLayer(w=weights[:, :-1], b=weights[:, -1], a=q @ z, c=jnp.sum(q))
