"""Lipschitz constants from above and below, coverings, and the bound of the gap they give."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from landscape.coverings import (
    cap,
    cube_radius,
    distance_to_uniform,
    generalization_bound,
    sphere_radius,
)
from landscape.jacobians import jacobian_norms
from landscape.lipschitz import (
    ball_points,
    errors_of_cross_entropy,
    errors_of_squared,
    interval_points,
    pair_ratios,
    sandwich,
    segment_norms,
)
from tests.landscape.problems import init_relu

TRIES, FAILURE = 120, 0.1


def tanh_network(params: Any, x: Array) -> Array:
    """Returns two layers of tanh and a linear one, of inputs of any shape."""
    x = x.reshape(len(x), -1)
    for i in range(3):
        x = x @ params[f"dense_{i}"]["kernel"] + params[f"dense_{i}"]["bias"][None]
        x = jnp.tanh(x) if i < 2 else x
    return x


def weights(seed: int, d: int, k: int, scale: float = 1.5) -> Any:
    params = init_relu(seed, (d, 8, 8, k), has_bias=True)
    return jax.tree.map(lambda x: jnp.asarray(scale * np.asarray(x)), params)


def is_covered(random: np.random.Generator, n: int, d: int, radius: float, *, cube: bool) -> bool:
    """Draws samples, and says whether all of many random points are near one of them."""
    size, draw = (d, random.uniform) if cube else (d + 1, random.normal)
    samples, points = draw(size=(n, size)), draw(size=(500, size))
    if cube:
        points[: 2**d] = np.array(np.meshgrid(*[[0, 1]] * d)).reshape(d, -1).T  # the corners
    else:
        samples /= np.linalg.norm(samples, axis=1, keepdims=True)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return bool(KDTree(samples).query(points)[0].max() <= radius)


@pytest.mark.parametrize(("n", "d", "cube"), [(60, 1, True), (200, 2, True), (200, 2, False)])
def test_balls_cover_cubes_and_spheres_as_often_as_promised(n: int, d: int, cube: bool) -> None:
    random = np.random.default_rng(0)
    radius = (cube_radius if cube else sphere_radius)(n, d, FAILURE)
    count = sum(is_covered(random, n, d, radius, cube=cube) for _ in range(TRIES))
    tight = sum(is_covered(random, n, d, radius / 4, cube=cube) for _ in range(10))

    assert binomtest(count, TRIES, 1 - FAILURE, "less").pvalue > 1e-4
    assert tight < 5  # the radius says something: a quarter of it does not do
    assert radius < 1


def test_covering_radii_follow_their_formulas() -> None:
    def empty(m: int, n: int, d: int) -> float:
        return m**d * (1 - m**-d) ** n

    for n, d in ((50, 1), (400, 2), (3000, 3)):
        m = round(d**0.5 / cube_radius(n, d, FAILURE))
        assert empty(m, n, d) <= FAILURE < empty(m + 1, n, d)
        r = sphere_radius(n, d, FAILURE) / 2
        np.testing.assert_allclose((1 - cap(r, d)) ** n / cap(r / 2, d), FAILURE, rtol=1e-5)
    assert cube_radius(1, 3, FAILURE) == 3**0.5  # one cell
    # The rate (log n / n)^(1/d), within the steps of whole numbers m.
    rate = [cube_radius(n, 2, FAILURE) / (np.log(n) / n) ** 0.5 for n in (10**3, 10**6)]
    assert 0.7 < rate[1] / rate[0] < 1.4
    # Archimedes: caps of the sphere are as large as discs; arcs of the circle.
    np.testing.assert_allclose(cap(0.3, 2), 0.3**2 / 4, rtol=1e-12)
    np.testing.assert_allclose(cap(1.0, 1), 1 / 3, rtol=1e-12)
    with pytest.raises(ValueError, match="failure=0: expected a probability between 0 and 1"):
        cube_radius(10, 2, 0)
    with pytest.raises(ValueError, match="dimension=0: expected at least 1"):
        sphere_radius(10, 0, 0.1)


@jax.jit
def of_interval(params: Any, inputs: Array, fine: Array, radius: Array) -> tuple:
    """Returns the sandwich, its points, and slopes at samples and on a fine grid."""
    points = interval_points(inputs, radius, 41)
    slopes = jax.vmap(jax.grad(lambda x: tanh_network(params, x[None])[0, 0]))
    found = sandwich(tanh_network, params, inputs, points)
    return found, points, slopes(inputs), slopes(fine)


def test_jacobians_at_samples_hold_the_lipschitz_constant_between_them() -> None:
    n, radius = 60, cube_radius(60, 1, FAILURE)
    fine = np.linspace(0, 1, 2001)[:, None]
    for seed in range(3):
        samples = np.sort(np.random.default_rng(seed).uniform(size=n))[:, None]
        gaps = np.r_[2 * samples[0], np.diff(samples[:, 0]), 2 * (1 - samples[-1])]
        assert gaps.max() / 2 <= radius  # the event of the theorem
        with jax.enable_x64(True):
            arrays = (jnp.asarray(x) for x in (samples, fine, radius))
            found, points, here, there = jax.device_get(
                of_interval(weights(seed, 1, 1, 3.0), *arrays)
            )
        lipschitz, near = np.abs(there).max(), np.abs(fine - samples.T) <= radius  # [fine, n]
        wanted = np.max(np.abs(there - here.T) * near, axis=0)

        assert np.all(np.abs(points[..., 0] - samples) <= radius + 1e-12)
        # Grids of 1/2000 and 1/240, of slopes that change by some times themselves over 1/12.
        np.testing.assert_allclose(found.variations, wanted, rtol=0, atol=0.02 * wanted.max())
        np.testing.assert_allclose(found.lower, np.abs(here).max(), rtol=1e-12)
        assert found.lower <= lipschitz * (1 + 1e-5)
        assert lipschitz <= found.upper * (1 + 1e-3) and found.upper < 3 * lipschitz


def test_points_of_balls_are_uniform_and_stay_in_the_support() -> None:
    with jax.enable_x64(True):
        centers = jnp.asarray(np.random.default_rng(0).uniform(size=(40, 1, 3)))
        cube = lambda x: jnp.clip(x, 0, 1)

        @jax.jit
        def both(key: Array, x: Array) -> tuple[Array, Array]:
            one, other = jax.random.split(key)
            free = ball_points(one, x, 0.2, 500)
            return free, ball_points(other, x, 0.2, 500, support=cube)

        drawn, kept = jax.device_get(both(jax.random.key(0), centers))
        off = drawn - np.asarray(centers)[:, None]
        share = (np.linalg.norm(off[..., 0, :], axis=-1) / 0.2).ravel() ** 3  # of the volume

    # A uniform law and a mean of 0, each within 5 standard errors of 20,000 points.
    np.testing.assert_allclose(np.mean(share), 1 / 2, atol=5 / np.sqrt(12 * 20_000))
    np.testing.assert_allclose(np.mean(share**2), 1 / 3, atol=5 * 0.3 / np.sqrt(20_000))
    np.testing.assert_allclose(off.mean((0, 1, 2)), 0, atol=5 * 0.2 / np.sqrt(20_000))
    assert share.max() <= 1 + 1e-9 and kept.min() >= 0 and kept.max() <= 1
    assert np.linalg.norm(kept - np.asarray(centers)[:, None], axis=-1).max() <= 0.2 + 1e-12


@jax.jit
def of_pairs(params: Any, inputs: Array, targets: Array) -> tuple:
    first, second = np.triu_indices(len(inputs), 1)
    outputs = tanh_network(params, inputs)
    costs = jnp.sum((outputs - targets) ** 2, axis=1) / 2
    ratios = pair_ratios(inputs, outputs, jnp.zeros(len(inputs)))
    bounds = pair_ratios(inputs, targets, errors_of_squared(costs))
    norms = segment_norms(tanh_network, params, inputs[first], inputs[second], num_points=24)
    return outputs, (ratios[first, second], bounds), norms


def test_jacobians_on_a_segment_are_no_smaller_than_ratios_of_its_ends() -> None:
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        inputs, targets = random.normal(size=(8, 2, 2)), random.normal(size=(8, 3))
        for seed, scale in ((0, 0.5), (1, 1.0), (2, 1.5)):
            params = weights(seed, 4, 3, scale)
            found = jax.device_get(of_pairs(params, inputs, targets))
            outputs, (ratios, bounds), norms = found
            # The rule of 24 points integrates these networks to far more digits.
            assert np.all(norms >= ratios * (1 - 1e-9))
            assert np.all(np.diag(bounds) == -np.inf)
            first, second = np.triu_indices(8, 1)
            for pair in (0, 19):
                i, j = first[pair], second[pair]
                apart = np.linalg.norm(inputs[i] - inputs[j])
                wanted = np.linalg.norm(outputs[i] - outputs[j]) / apart
                np.testing.assert_allclose(ratios[pair], wanted, rtol=1e-10)
                errors = np.linalg.norm(outputs - targets, axis=1)
                least = np.linalg.norm(targets[i] - targets[j]) - errors[i] - errors[j]
                np.testing.assert_allclose(bounds[i, j], least / apart, rtol=1e-10)
            # Errors take away more than they can give.
            assert np.all(bounds[first, second] <= ratios + 1e-12)


def test_a_linear_network_along_its_top_direction_attains_the_ratio() -> None:
    @jax.jit
    def both(matrix: Array, x: Array) -> tuple[Array, Array]:
        ends = segment_norms(lambda w, x: x @ w, matrix, x[:1], x[1:2], num_points=2)
        return pair_ratios(x, x @ matrix, jnp.zeros(4)), ends

    x = np.array([[0, 0], [3, 0], [0, 1], [0, 0]], np.float32)
    ratios, norms = jax.device_get(both(np.diag(np.array([2, 1], np.float32)), x))

    np.testing.assert_allclose(ratios[0, 1:3], [2, 1], rtol=1e-6)
    np.testing.assert_allclose(norms, 2, rtol=1e-6)
    assert ratios[0, 3] == -np.inf  # one input twice


def test_cross_entropy_bounds_the_distance_to_targets_by_pinsker() -> None:
    random = np.random.default_rng(0)
    p, soft = random.dirichlet(np.full(4, 0.5), size=(2, 200))
    errors = jax.jit(errors_of_cross_entropy)
    for targets in (soft, np.eye(4)[random.integers(0, 4, 200)]):
        costs = -np.sum(targets * np.log(p), axis=1)
        found = errors(np.float32(costs), np.float32(targets))
        assert np.all(np.asarray(found) >= np.linalg.norm(p - targets, axis=1) - 1e-5)
    # Two classes, losses of a quarter: nothing is left of sqrt(2); below, something is.
    x, y = np.array([[0], [1]], np.float32), np.eye(2, dtype=np.float32)
    of_both = lambda x, y, costs: pair_ratios(x, y, errors_of_cross_entropy(costs, y))[0, 1]
    bounds = partial(jax.jit(of_both), x, y)
    for cost, least in ((0.25, 0.0), (0.2, 2**0.5 - 2 * 0.4**0.5), (0.0, 2**0.5)):
        np.testing.assert_allclose(bounds(np.full(2, cost, np.float32)), least, atol=1e-6)


def test_the_distance_to_the_uniform_law_is_exact_on_a_line() -> None:
    for n in (1, 2, 31):
        points = np.random.default_rng(n).uniform(size=n)
        t = (np.arange(200_000) + 0.5) / 200_000
        share = np.searchsorted(np.sort(points), t, side="right") / n
        # The area between the distribution functions, by its midpoints.
        area = np.mean(np.abs(share - t))
        np.testing.assert_allclose(distance_to_uniform(points[:, None]), area, rtol=1e-4)
    middles = (np.arange(10)[:, None] + 0.5) / 10
    np.testing.assert_allclose(distance_to_uniform(middles), 1 / 40, rtol=1e-12)


@pytest.mark.parametrize("n", [16, 100])
def test_the_distance_to_the_uniform_law_is_bounded_in_the_plane(n: int) -> None:
    samples, side = np.random.default_rng(n).uniform(size=(n, 2)), 20
    grid = (np.stack(np.meshgrid(*[np.arange(side)] * 2), -1).reshape(-1, 2) + 0.5) / side
    many = np.repeat(samples, side**2 // n, axis=0)
    distances = cdist(many, grid)
    optimal = distances[linear_sum_assignment(distances)].mean()
    # The grid is this far from uniform: a mean of sqrt(2) + asinh(1) over 6 in a unit square.
    spread = (2**0.5 + np.arcsinh(1)) / 6 / side

    assert optimal - spread <= distance_to_uniform(samples) <= 2 * (optimal + spread)


def test_the_distance_to_the_uniform_law_falls_as_it_should_in_the_plane() -> None:
    random = np.random.default_rng(0)
    found = [distance_to_uniform(random.uniform(size=(n, 2))) for n in (100, 10_000)]

    # A hundred times the samples: a tenth, by the root of a logarithm more.
    assert 1 / 10 < found[1] / found[0] < 1 / 10 * 2


@jax.jit
def of_regression(networks: Any, inputs: Array, points: Array, grid: Array) -> tuple:
    """Returns Lipschitz constants of two networks, from samples and from a grid, and errors."""

    def constants(params: Any) -> tuple[Array, Array]:
        steepest = jnp.max(jacobian_norms(tanh_network, params, grid).spectral)
        return sandwich(tanh_network, params, inputs, points).upper, steepest

    def errors(x: Array) -> Array:
        student, teacher = jax.vmap(tanh_network, in_axes=(0, None))(networks, x)
        return jnp.linalg.norm(student - teacher, axis=1)

    return *jax.vmap(constants)(networks), (errors(inputs), errors(grid))


@pytest.mark.parametrize("d", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_bound_of_the_gap_holds_in_every_synthetic_case(d: int) -> None:
    random, n = np.random.default_rng(d), 64
    side = 4000 if d == 1 else 100
    axes = [(np.arange(side) + 0.5) / side] * d
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, d)
    radius = cube_radius(n, d, FAILURE)
    ratios = []
    for seed in range(6):
        samples = random.uniform(size=(n, d)) ** (1 + seed / 5)  # more and more uneven
        steps = random.uniform(-1, 1, size=(n, 32, d)) * radius / d**0.5
        points = np.clip(samples[:, None] + steps, 0, 1)
        with jax.enable_x64(True):
            arrays = (jnp.asarray(x) for x in (samples, points, grid))
            both = weights(seed, d, 2, 1 + seed / 5), weights(seed + 10, d, 2)
            networks = jax.tree.map(lambda x, y: jnp.asarray(np.stack([x, y])), *both)
            found = jax.device_get(of_regression(networks, *arrays))
        constants, steepest, (errors, everywhere) = found
        assert np.all(constants >= steepest)
        # Half of the squared error, whose slope in both arguments is the error.
        gap = abs(np.mean(everywhere**2) - np.mean(errors**2)) / 2
        distance = distance_to_uniform(samples)
        student, teacher = constants.tolist()
        bound = generalization_bound(float(everywhere.max()), student, teacher, distance)
        np.testing.assert_allclose(bound, everywhere.max() * constants.sum() * distance)
        ratios.append(bound / gap)

    assert min(ratios) >= 1
    assert min(ratios) < 100  # not for the sake of a number far from all others


def test_samples_that_are_not_in_the_cube_are_named() -> None:
    with pytest.raises(ValueError, match=r"samples have an entry 1.5: expected all in \[0, 1\]"):
        distance_to_uniform(np.array([[0.2, 1.5]]))
    with pytest.raises(ValueError, match=r"samples have shape \(3,\): expected \[n, d\]"):
        distance_to_uniform(np.zeros(3))
