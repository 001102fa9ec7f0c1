"""The refinement of BOON: exact boundaries for any weights, two forms that agree, refusals."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.boon.refinement import Refinement, check_refinement, conditioning, refine, refined
from sciml.boundary import BoundaryCondition, FaceData
from sciml.initialization import draw
from sciml.kernels import Layer, kernel_of
from sciml.multiwavelet import check_grid, init_multiwavelet, legendre_filters, multiwavelet_kernel
from sciml.spectral import init_spectral, spectral_kernel
from tests.sciml import refinements


@cache
def measured_once(name: str) -> list[dict[str, Any]]:
    with jax.enable_x64(True):
        return list(refinements.cases(getattr(refinements, name)))


@pytest.fixture(params=["QUICK", pytest.param("SLOW", marks=pytest.mark.slow)])
def measured(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return measured_once(request.param)


def test_both_forms_agree_to_1e_12_in_float64(measured) -> None:
    assert len(measured) >= 4
    wrong = [c for c in measured if not c["difference"] < 1e-12 or c["changes"] < 0.1]
    assert not wrong


def test_conditions_hold_exactly_in_float64(measured) -> None:
    for case in measured:
        # Slopes: rounding of fields of size 10, times 1.5 (N - 1).
        assert case["violation"] <= (1e-11 if "neumann" in case["case"] else 0.0), case


def test_a_direct_target_is_hit_before_the_ends_are_written(measured) -> None:
    for case in measured:
        is_hit = case["unwritten"] < 1e-9  # slopes of size 100 through blocks of condition 1e3
        assert is_hit == (" value " in case["case"]), case


def test_the_layer_is_the_kernel_product_of_the_paper() -> None:
    with jax.enable_x64(True):
        found = refinements.dense()
    assert found["rows_left"] < 1e-12 and found["difference"] < 1e-12


def small_layer(key: jax.Array) -> Layer:
    params = draw(key, partial(init_spectral, modes=(4,), c_in=2, c_out=2))
    return Layer(spectral_kernel(params, (12,)), jnp.eye(2))


@pytest.mark.parametrize("target", [pytest.param("kernel", marks=pytest.mark.slow), "value"])
def test_gradients_of_a_refined_layer_agree_with_finite_differences(target) -> None:
    key_params, key_v, key_step = jax.random.split(jax.random.key(0), 3)
    v = jax.random.normal(key_v, (12, 3, 2))
    params = draw(key_params, partial(init_spectral, modes=(4,), c_in=2, c_out=2))
    data = FaceData(jnp.ones((3, 1)), -jnp.ones((3, 1)))
    condition = BoundaryCondition("dirichlet")

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        layer = Layer(spectral_kernel(params, (12,)), jnp.eye(2))
        out = refine(layer, v, [(condition, data)], Refinement(target))
        return jnp.sum(jnp.sin(out))

    noise = 1e-2 * jax.random.normal(key_step, (2, *params.re.shape))
    step = type(params)(noise[0], noise[1])
    grad = loss(params)[1]
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, s: jnp.sum(g * s), grad, step)))
    ahead, _ = loss(jax.tree.map(jnp.add, params, step))
    behind, _ = loss(jax.tree.map(jnp.subtract, params, step))
    # float32 sums of 72 terms, differenced
    assert float(ahead - behind) / 2 == pytest.approx(float(slope), abs=2e-3, rel=2e-2)


@pytest.mark.slow  # compiles for long
def test_a_zero_kernel_has_the_slope_of_what_it_does_without_sources() -> None:
    v, ones = jnp.ones((12, 1, 2)), FaceData(jnp.ones((1, 1)), jnp.ones((1, 1)))
    condition = BoundaryCondition("dirichlet")

    def loss(weight):
        layer = Layer(kernel_of(lambda u: weight * u, (12,), channels=2))
        return jnp.sum(refine(layer, v, [(condition, ones)], Refinement("value")))

    value, grad = jax.jit(jax.value_and_grad(loss))(jnp.zeros(()))
    assert value == 4.0 and grad == 20.0  # two ends of two channels are written, ten points are not
    layer = Layer(kernel_of(lambda u: 0 * u, (12,), channels=2))
    with pytest.raises(ValueError, match="singular refinement: the boundary block of axis 0"):
        refine(layer, v, [(condition, ones)], Refinement(damping=0.0))


def dense_layer(matrix: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.einsum("xyio,byi->bxo", matrix, v)


@jax.jit
def both_targets(matrix: jax.Array, v: jax.Array, ends: FaceData) -> list[jax.Array]:
    wall = BoundaryCondition("dirichlet")
    return [
        refined(lambda u: dense_layer(matrix, u), wall, target=target)(v, ends)
        for target in ("value", "kernel")
    ]


@pytest.mark.parametrize("name", ["mean", "rank 1"])
def test_a_layer_of_low_rank_takes_the_values_that_it_can_take(name: str) -> None:
    generator = np.random.default_rng(0)
    shape = np.ones((12, 2)) if name == "mean" else generator.normal(size=(12, 2)) + 3
    weights = generator.normal(size=(12, 2))
    matrix = jnp.asarray(np.einsum("xo,yi->xyio", shape, weights), jnp.float32)
    v = jnp.asarray(generator.normal(size=(3, 12, 2)), jnp.float32)
    field = jnp.asarray(np.array([1.0, -2.0, 0.5])[:, None, None] * shape, jnp.float32)

    value, kernel = both_targets(matrix, v, FaceData(field[:, 0], field[:, -1]))

    # The layer makes multiples of one field: that with the values asked for at both ends.
    np.testing.assert_allclose(value, field, rtol=0, atol=1e-4 * np.abs(field).max())
    assert np.isfinite(kernel).all()
    ratio = kernel[:, 1:-1] / field[:, 1:-1]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1], ratio.shape), rtol=1e-3)


def test_a_scaled_layer_is_refined_to_the_scaled_field() -> None:
    generator = np.random.default_rng(0)
    matrix = jnp.asarray(generator.normal(size=(12, 12, 2, 2)), jnp.float32)
    v = jnp.asarray(generator.normal(size=(3, 12, 2)), jnp.float32)
    zeros = FaceData(jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    once = both_targets(matrix, v, zeros)
    for size in (2.0**-30, 2.0**-34, 2.0**-90, 2.0**60):  # 1e-9, 6e-11, 8e-28
        for one, scaled in zip(once, both_targets(size * matrix, v, zeros), strict=True):
            np.testing.assert_allclose(scaled / size, one, rtol=1e-5, atol=1e-5)


def test_what_a_layer_adds_is_not_taken_for_a_part_of_its_kernel() -> None:
    generator = np.random.default_rng(0)
    matrix = jnp.asarray(generator.normal(size=(12, 12, 2, 2)), jnp.float32)
    v = jnp.asarray(generator.normal(size=(3, 12, 2)), jnp.float32)
    low, high = jnp.asarray(generator.normal(size=(2, 3, 2)), jnp.float32)
    added = jnp.asarray(40 * generator.normal(size=(1, 12, 2)), jnp.float32)

    @jax.jit
    def affine(v):
        def layer(u):
            return dense_layer(matrix, u) + jnp.broadcast_to(added, u.shape)

        return refined(layer, BoundaryCondition("dirichlet"), target="value")(
            v, FaceData(low, high)
        )

    found = affine(v)
    rest = FaceData(low - added[:, 0], high - added[:, -1])
    wanted = both_targets(matrix, v, rest)[0] + added
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * float(np.abs(wanted).max()))
    np.testing.assert_array_equal(found[:, 0], low)
    np.testing.assert_array_equal(found[:, -1], high)


@pytest.mark.parametrize("activation", [jax.nn.relu, jnp.tanh])
def test_a_layer_with_an_activation_is_refused(activation) -> None:
    v = jax.random.normal(jax.random.key(0), (3, 12, 2))
    ends = FaceData(jnp.zeros((3, 1)), jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="refined: the function is not affine") as no:
        refined(lambda u: activation(3 * u), BoundaryCondition("dirichlet"))(v, ends)
    assert "\n" not in str(no.value)


@pytest.mark.slow  # a group of seeds does that in training
def test_vmap_over_weights_gives_exact_ends_in_every_member() -> None:
    v = jax.random.normal(jax.random.key(1), (12, 3, 2))
    data = FaceData(jnp.full((3, 1), 2.0), jnp.full((3, 1), -1.0))

    def run(key):
        return refine(small_layer(key), v, [(BoundaryCondition("dirichlet"), data)], Refinement())

    out = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 4))
    assert (out[:, 0] == 2.0).all() and (out[:, -1] == -1.0).all()
    assert jnp.std(out[:, 5], axis=0).min() > 1e-3


def test_the_identity_with_its_own_values_stays_the_identity() -> None:
    v = jax.random.normal(jax.random.key(0), (2, 12, 3))
    dirichlet = refined(lambda u: u, BoundaryCondition("dirichlet"))
    periodic = refined(lambda u: u, BoundaryCondition("periodic"))
    same = v.at[:, -1].set(v[:, 0])

    @jax.jit
    def both(v, same):
        data = FaceData(v[:, 0], v[:, -1])
        return dirichlet(v, data), periodic(same, data)

    ours, tied = both(v, same)
    np.testing.assert_allclose(ours, v, atol=1e-6)
    np.testing.assert_array_equal(tied, same)


def test_conditioning_sees_a_nearly_singular_block() -> None:
    condition, how = BoundaryCondition("dirichlet"), Refinement(damping=0.0)

    @jax.jit
    def number(small: jax.Array) -> jax.Array:
        scale = jnp.diag(jnp.stack([jnp.ones(()), small]))
        layer = Layer(kernel_of(lambda u: u @ scale, (8,), channels=2))
        return conditioning(layer, condition, 8, how)

    numbers = [float(number(jnp.float32(small))) for small in (1.0, 1e-3)]
    assert numbers[0] == pytest.approx(1, rel=1e-5)
    assert numbers[1] == pytest.approx(1e3, rel=1e-3)


@pytest.mark.parametrize("fields", [dict(target="slope"), dict(damping=-0.1), dict(damping=1.0)])
def test_a_refinement_out_of_range_is_refused(fields) -> None:
    (name, value), *_ = fields.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        check_refinement(Refinement()._replace(**fields))


@pytest.mark.parametrize("order", [1, 3, 4])
def test_multiwavelet_filters_are_orthogonal_and_kill_polynomials(order: int) -> None:
    h0, h1, g0, g1 = legendre_filters(order)
    matrix = np.block([[h0, h1], [g0, g1]])
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2 * order), atol=1e-13)
    nodes, weights = np.polynomial.legendre.leggauss(order + 2)
    x, weights = (nodes + 1) / 2, weights / 2
    basis = np.stack(
        [
            np.sqrt(2 * i + 1) * np.polynomial.legendre.legval(2 * x - 1, np.eye(order)[i])
            for i in range(order)
        ]
    )

    def details(power: int) -> np.ndarray:
        halves = [basis @ (weights * ((x + j) / 2) ** power) / np.sqrt(2) for j in (0, 1)]
        return g0 @ halves[0] + g1 @ halves[1]

    for power in range(order):
        np.testing.assert_allclose(details(power), 0, atol=1e-13)
    assert np.abs(details(order)).max() > 1e-3


def test_a_multiwavelet_kernel_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="axis of 12 points: expected a power of 2"):
        check_grid((12,), order=2, width=4)
    with pytest.raises(ValueError, match="width=5: expected a multiple"):
        check_grid((16,), order=2, width=5)

    def face(key):
        params = draw(key, partial(init_multiwavelet, modes=(2, 2), width=2, order=1))
        return multiwavelet_kernel(params, (6, 8), order=1).face(jnp.zeros((2, 8, 1, 2)), 0)

    with pytest.raises(ValueError, match="along its transformed axis 1 only"):
        jax.eval_shape(face, jax.random.key(0))
