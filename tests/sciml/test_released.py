"""BOON's released refinement, against its recipe by calls of both branches, in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.boon.model import ModelSpec, constrained_layer
from sciml.boon.refinement import Refinement, refine
from sciml.boon.released import no_elimination, released_layer, scalar_elimination
from sciml.boundary import BoundaryCondition, FaceData, Kind, stencil
from sciml.initialization import draw
from sciml.kernels import Layer
from sciml.operators import OperatorSpec, init_operator, operator
from sciml.spectral import init_spectral, spectral_kernel

POINTS, BATCH, CHANNELS, MODES = 12, 3, 2, 4


def recipe(branch, x, condition, low, high, *, eliminates):
    """One branch: unit sources in all channels, scalars read off channel 0, ends overwritten."""
    return with_ends(
        branch(sourced(branch, x, condition) if eliminates else x), condition, low, high
    )


def sourced(branch, x, condition):
    first, last = np.zeros_like(x), np.zeros_like(x)
    first[0], last[-1] = 1, 1
    k00, kn0 = branch(first)[0, 0, 0], branch(first)[-1, 0, 0]
    k0n, knn = branch(last)[0, 0, 0], branch(last)[-1, 0, 0]
    y = x.copy()
    if condition.kind == "dirichlet":
        kx = branch(x)
        y[0] = 2 * x[0] - (kx[0] - kx[-1] * k0n / knn + k0n * x[-1]) / (k00 - kn0 * k0n / knn)
    q = y.copy()
    q[-1] = 2 * y[-1] - branch(y)[-1] / knn
    return q


def with_ends(out, condition, low, high):
    if condition.kind == "dirichlet":
        out[0], out[-1] = low, high
        return out
    first, *rest = (c * (POINTS - 1) for c in stencil(condition.order))
    out[0] = (low - sum(c * out[1 + j] for j, c in enumerate(rest))) / first
    out[-1] = (-high - sum(c * out[-2 - j] for j, c in enumerate(rest))) / first
    return out / 2


@pytest.mark.parametrize(
    ("kind", "eliminates"),
    [
        ("dirichlet", True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("dirichlet", False), ("neumann", True), ("neumann", False))
        ),
    ],
)
def test_a_released_layer_is_its_recipe_by_calls(kind: Kind, eliminates: bool) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(POINTS, BATCH, CHANNELS))
    w, b = random.normal(size=(CHANNELS, CHANNELS)), random.normal(size=CHANNELS)
    low, high = random.normal(size=(2, BATCH, 1))
    with jax.enable_x64(True):
        init = partial(init_spectral, modes=(MODES,), c_in=CHANNELS, c_out=CHANNELS)
        params = draw(jax.random.key(1), init)
        weights = np.asarray(params.re + 1j * params.im, complex).reshape(MODES, CHANNELS, CHANNELS)
        condition, data = BoundaryCondition(kind), FaceData(jnp.asarray(low), jnp.asarray(high))
        layer = Layer(spectral_kernel(params, (POINTS,)), jnp.asarray(w), jnp.asarray(b))
        correct = scalar_elimination if eliminates else no_elimination
        ours = released_layer(layer, jnp.asarray(x), condition, data, jax.nn.relu, correct=correct)

        def spread(v):
            modes = np.einsum("kbi,kio->kbo", np.fft.rfft(v, axis=0)[:MODES], weights)
            return np.fft.irfft(modes, n=POINTS, axis=0)

        branches = (spread, lambda v: v @ w + b)
        one = partial(recipe, x=x, condition=condition, low=low, high=high, eliminates=eliminates)
        theirs = np.sum([one(branch) for branch in branches], axis=0)
    # Sources are divided by scalars of size 0.1 twice: rounding of float64 times a hundred.
    np.testing.assert_allclose(ours, np.maximum(theirs, 0), rtol=1e-11, atol=1e-11 * theirs.std())


def test_a_gradient_grows_without_bound_as_the_scalar_that_is_divided_by_vanishes() -> None:
    x = jnp.asarray(np.random.default_rng(2).normal(size=(POINTS, BATCH, CHANNELS)))

    def of_other_channels(scalar: jax.Array) -> jax.Array:  # which it is not read off
        weights = jnp.zeros((MODES, CHANNELS, CHANNELS)).at[:, :, 1].set(1.0)
        weights = weights.at[0, 0, 0].set(POINTS * scalar)  # of the mean: the same everywhere
        params = like._replace(re=weights.reshape(like.re.shape), im=jnp.zeros(like.im.shape))
        kernel = spectral_kernel(params, (POINTS,))
        return jnp.sum(scalar_elimination(kernel, x, BoundaryCondition("neumann"))[..., 1] ** 2)

    with jax.enable_x64(True):
        init = partial(init_spectral, modes=(MODES,), c_in=CHANNELS, c_out=CHANNELS)
        like = draw(jax.random.key(1), init)
        gradient = jax.jit(jax.grad(of_other_channels))
        small, smaller = (float(gradient(jnp.float64(s))) for s in (1e-4, 1e-6))

    # Outputs are a + b / s, their squares b^2 / s^2, so that the gradient is -2 b^2 / s^3.
    assert smaller / small == pytest.approx(100.0**3, rel=0.01)


def test_exact_elimination_in_a_released_layer_is_the_refinement_of_its_kernel() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(POINTS, BATCH, CHANNELS))
    low, high = random.normal(size=(2, BATCH, 1))
    w = random.normal(size=(CHANNELS, CHANNELS))
    with jax.enable_x64(True):
        init = partial(init_spectral, modes=(MODES,), c_in=CHANNELS, c_out=CHANNELS)
        kernel = spectral_kernel(draw(jax.random.key(1), init), (POINTS,))
        condition, data = BoundaryCondition("dirichlet"), FaceData(*map(jnp.asarray, (low, high)))
        given = [(condition, data)]
        size = OperatorSpec("fno", (MODES,), CHANNELS, 1, 8, (0.0,))
        spec = ModelSpec("exact_released", size, (condition,), (0,), 1e-3)
        layer = constrained_layer(spec, given)
        ours = layer(Layer(kernel, jnp.asarray(w)), jnp.asarray(x), lambda v: v)
        branch = refine(Layer(kernel), jnp.asarray(x), given, Refinement("kernel", 1e-3))
    # Rounding of float64, through a solve whose condition is at most that of the damping.
    wanted = (np.asarray(branch) + x @ w)[1:-1]
    np.testing.assert_allclose(ours[1:-1], wanted, rtol=1e-11, atol=1e-11 * wanted.std())
    for end, value in ((0, low), (-1, high)):  # one from each branch
        np.testing.assert_allclose(ours[end], 2 * np.broadcast_to(value, x.shape[1:]), rtol=1e-14)


@pytest.mark.slow
def test_a_base_that_discards_its_last_layer_does_not_read_it() -> None:
    spec = OperatorSpec("fno", (MODES,), 4, 3, 8, (0.0,), discards_last=True)
    params = init_operator(jax.random.key(0), spec=spec, c_in=2, c_out=1)
    inputs = jax.random.normal(jax.random.key(1), (POINTS, BATCH, 2))

    def answer(params, spec):
        return operator(params, inputs, spec=spec)

    other = jax.tree.map(lambda x: x.at[-1].add(1.0), params.layers)
    changed = params._replace(layers=other)
    kept = answer(params, spec)
    np.testing.assert_array_equal(kept, answer(changed, spec))
    used = spec._replace(discards_last=False)
    difference = np.abs(answer(params, used) - answer(changed, used)).max()
    assert difference > 0.1 * np.abs(kept).std() > 0
