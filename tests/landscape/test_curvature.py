"""Eigenvalues against matrices written down: quadratics, deep linear networks, small networks."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.sharding import make_mesh, place, shardings
from landscape import curvature, lanczos
from landscape.curvature import eigenpairs, ends_over, extreme_eigenvalues, spectrum_ends
from landscape.density import spectral_density
from landscape.products import GaussNewton, averaged, gauss_newton_product, hessian_product
from landscape.traces import trace
from landscape.vectors import Layout, layout_of, moved, to_direction, to_vector
from tests.landscape.problems import (
    classification,
    cross_entropy,
    init_relu,
    labelled,
    predicted,
    quadratic,
    symmetric,
)
from tests.processes import Child

N = 40
VALUES = np.r_[-5.0, -1.0, np.linspace(0, 1, N - 6), 7.0, 8.0, 9.0, 20.0]
CUTS = slice(0, 16), slice(16, 23)
GAUSS_NEWTON = GaussNewton(predicted, cross_entropy)


def params_of(n: int = N) -> dict:
    """Returns n numbers in two leaves, and a counter."""
    return {"a": jnp.ones((n - 10) // 2), "b": jnp.ones((n - (n - 10) // 2,)), "count": 3}


def quadratic_without_count(params: Any, batch: Any) -> jax.Array:
    return quadratic({"a": params["a"], "b": params["b"]}, batch)


def dense(function: Any, params: Any, batches: list, **options: Any) -> np.ndarray:
    """Returns the whole matrix of an operator, column by column."""
    operator = averaged(function, params, batches, **options)
    rows = np.eye(operator.layout.size, dtype=operator.layout.dtype)
    return np.stack([operator.apply(jnp.asarray(row)) for row in rows])


@partial(jax.jit, static_argnames=("function", "layout"))
def hessian_of(function: Any, layout: Layout, vector: jax.Array, batch: Any) -> jax.Array:
    return jax.hessian(lambda v: function(to_direction(layout, v), batch))(vector)


def by_definition(function: Any, params: Any, batch: Any) -> np.ndarray:
    """Returns the Hessian as JAX's own, of all parameters as one vector."""
    layout = layout_of(params)
    vector = to_vector(layout, params)
    return np.asarray(hessian_of(function, layout, vector, batch))


def test_a_quadratic_has_the_eigenvalues_of_its_matrix() -> None:
    with jax.enable_x64(True):
        matrix = symmetric(VALUES)
        batches, options = [{"matrix": jnp.asarray(matrix)}], dict(key=jax.random.key(0))
        top = eigenpairs(
            quadratic_without_count, params_of(), batches, k=3, tolerance=1e-12, **options
        )
        options = dict(key=jax.random.key(1))
        ends = spectrum_ends(
            quadratic_without_count, params_of(), batches, tolerance=1e-12, **options
        )
        low = eigenpairs(
            quadratic_without_count,
            params_of(),
            batches,
            k=2,
            which="smallest",
            key=jax.random.key(2),
        )
        large = eigenpairs(
            quadratic_without_count,
            params_of(),
            batches,
            k=4,
            which="magnitude",
            key=jax.random.key(3),
        )

        np.testing.assert_allclose(top.values, [20, 9, 8], rtol=1e-10)
        np.testing.assert_allclose([ends.smallest, ends.largest], [-5, 20], rtol=1e-10)
        assert ends.ratio == pytest.approx(0.25) and ends.is_sign_certain
        np.testing.assert_allclose(low.values, [-5, -1], rtol=1e-4)
        np.testing.assert_allclose(large.values, [20, 9, 8, 7], rtol=1e-4)
        for value, vector, residual in zip(top.values, top.vectors, top.residuals, strict=True):
            flat = np.concatenate([vector["a"], vector["b"]])
            assert vector["count"] is None
            left = np.linalg.norm(matrix @ flat - value * flat)
            np.testing.assert_allclose(np.linalg.norm(flat), 1)
            # The bound is the residual itself, to rounding.
            np.testing.assert_allclose(left, residual, atol=1e-12)
        assert top.num_products <= N


def test_every_residual_bounds_the_error_of_its_value() -> None:
    with jax.enable_x64(True):
        batches = [{"matrix": jnp.asarray(symmetric(VALUES))}]
        operator = averaged(quadratic_without_count, params_of(), batches)
        start = jax.random.normal(jax.random.key(0), (N,))
        for steps in (4, 8, 16):
            found = lanczos.decompose(operator.apply, start, steps)
            ritz = lanczos.ritz(found.alphas, found.betas)
            nearest = np.min(np.abs(ritz.values[:, None] - VALUES), axis=1)
            assert np.all(nearest <= ritz.residuals + 1e-12)
            basis = np.asarray(found.basis[:steps])
            np.testing.assert_allclose(basis @ basis.T, np.eye(steps), atol=1e-13)
            assert np.max(ritz.residuals) > 0.1


def test_eigenvalues_that_are_there_several_times_are_found_once_the_space_is_exhausted() -> None:
    with jax.enable_x64(True):
        values = np.r_[np.full(3, 5.0), np.full(30, 1.0), np.full(7, 2.0)]
        batches = [{"matrix": jnp.asarray(symmetric(values))}]
        found = eigenpairs(
            quadratic_without_count,
            params_of(),
            batches,
            k=5,
            key=jax.random.key(0),
            tolerance=1e-9,
        )

        np.testing.assert_allclose(found.values, [5, 5, 5, 2, 2], rtol=1e-9)
        flat = np.stack([np.r_[v["a"], v["b"]] for v in found.vectors])
        np.testing.assert_allclose(flat @ flat.T, np.eye(5), atol=1e-9)


def test_quadrature_is_exact_with_as_many_steps_as_different_eigenvalues() -> None:
    with jax.enable_x64(True):
        values = np.r_[np.full(20, 0.0), np.full(15, 1.0), np.full(4, 3.0), 10.0]
        batches = [{"matrix": jnp.diag(jnp.asarray(values))}]  # signs hit all entries alike
        found = spectral_density(
            quadratic_without_count,
            params_of(),
            batches,
            num_steps=4,
            num_probes=2,
            key=jax.random.key(0),
        )

        for nodes, weights in zip(found.nodes, found.weights, strict=True):
            np.testing.assert_allclose(nodes, [0, 1, 3, 10], atol=1e-10)
            np.testing.assert_allclose(weights, np.array([20, 15, 4, 1]) / N, rtol=1e-10)
        mean, stderr = found.mean(lambda x: x**2)
        np.testing.assert_allclose(mean, np.mean(values**2), rtol=1e-10)
        assert stderr < 1e-10
        grid = np.linspace(-2, 12, 2001)
        density = found.density(grid, width=0.2)
        np.testing.assert_allclose(np.sum(density) * (grid[1] - grid[0]), 1, rtol=1e-6)
        np.testing.assert_allclose(
            density[np.searchsorted(grid, 3.0)], 0.1 / 0.2 / np.sqrt(2 * np.pi), rtol=1e-3
        )


def deep_linear(params: Any, batch: Any) -> jax.Array:
    x = batch["x"]
    for name in ("w0", "w1", "w2"):
        x = x @ params[name]
    return jnp.mean(jnp.sum((x - batch["y"]) ** 2, axis=1)) / 2


def test_a_deep_linear_network_has_the_spectrum_of_its_closed_form() -> None:
    """Balanced factors at the minimum, whitened inputs: sum_l s_i^{2(L-l)/L} s_j^{2(l-1)/L}."""
    with jax.enable_x64(True):
        random, depth, d = np.random.default_rng(0), 3, 4
        s = np.array([2.0, 1.5, 1.0, 0.5])
        bases = [np.linalg.qr(random.normal(size=(d, d)))[0] for _ in range(4)]
        root = np.diag(s ** (1 / depth))
        params = {f"w{i}": jnp.asarray(bases[i] @ root @ bases[i + 1].T) for i in range(3)}
        x = np.linalg.qr(random.normal(size=(12, d)))[0] * np.sqrt(12)
        batch = {"x": jnp.asarray(x), "y": jnp.asarray(x @ bases[0] @ np.diag(s) @ bases[3].T)}
        batches = [jax.tree.map(lambda a, i=i: a[i : i + 6], batch) for i in (0, 6)]
        powers = np.arange(1, depth + 1)
        left, right = (s[:, None] ** (2 * p / depth) for p in (depth - powers, powers - 1))
        wanted = np.sort(np.einsum("il,jl->ij", left, right).ravel())[::-1]
        spectrum = np.linalg.eigvalsh(dense(deep_linear, params, batches))[::-1]

        np.testing.assert_allclose(spectrum[:16], wanted, rtol=1e-12)
        np.testing.assert_allclose(spectrum[16:], 0, atol=1e-12)
        found = eigenpairs(
            deep_linear, params, batches, k=3, key=jax.random.key(0), tolerance=1e-10
        )
        # The second eigenvalue is there twice, and a single vector sees one of the two.
        once = np.unique(wanted.round(12))[::-1]
        np.testing.assert_allclose(found.values[0], depth * s[0] ** (2 - 2 / depth), rtol=1e-8)
        np.testing.assert_allclose(found.values, once[:3], rtol=1e-8)


def product_of_two(params: Any, batch: Any) -> jax.Array:
    return (params["a"] * params["b"] - 1) ** 2 / 2 + 0 * jnp.sum(batch)


def test_the_hessian_of_a_product_of_two_numbers_is_the_one_by_hand() -> None:
    with jax.enable_x64(True):
        for a, b in ((2.0, 0.5), (1.5, -0.3)):
            params = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
            matrix = dense(product_of_two, params, [jnp.zeros(1)])
            np.testing.assert_allclose(matrix, [[b**2, 2 * a * b - 1], [2 * a * b - 1, a**2]])
        at_minimum = trace(
            product_of_two,
            {"a": 2.0, "b": 0.5},
            [jnp.zeros(1)],
            key=jax.random.key(0),
            num_products=9,
            method="hutch++",
        )
        np.testing.assert_allclose(at_minimum.value, 2.0**2 + 0.5**2)
        assert at_minimum.stderr == 0  # two dimensions, three vectors


def test_averages_over_batches_of_any_sizes_are_those_of_all_rows() -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 23)
        batches = [jax.tree.map(lambda x, cut=cut: x[cut], batch) for cut in CUTS]
        hessian = by_definition(classification, params, batch)
        rows = [i for i, path in enumerate(entry_paths(params)) if "dense_1" not in path]
        part = dense(classification, params, [batch], frozen="dense_1")

        np.testing.assert_allclose(dense(classification, params, batches), hessian, atol=1e-14)
        np.testing.assert_allclose(part, hessian[np.ix_(rows, rows)], atol=1e-14)
        ends = spectrum_ends(classification, params, batches, key=jax.random.key(0), tolerance=1e-8)
        wanted = np.linalg.eigvalsh(hessian)[[0, -1]]
        np.testing.assert_allclose([ends.smallest, ends.largest], wanted, rtol=1e-6)
        uneven = averaged(classification, params, batches, sizes=[1, 0])
        row = uneven.apply(jnp.asarray(np.eye(uneven.layout.size)[0]))
        alone = dense(classification, params, batches[:1])[0]
        np.testing.assert_allclose(row, alone, atol=1e-14)


def entry_paths(params: Any) -> list[str]:
    layout = layout_of(params)
    return [p for p, n in zip(layout.moving_paths, layout.sizes, strict=True) for _ in range(n)]


def test_the_gauss_newton_matrix_is_the_jacobians_around_the_softmax_hessian() -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 23)
        layout = layout_of(params)

        def both(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
            theta = to_direction(layout, vector)
            product = lambda d: gauss_newton_product(GAUSS_NEWTON, theta, batch, d)
            row = lambda unit: to_vector(layout, product(to_direction(layout, unit)))
            outputs = lambda v: predicted(to_direction(layout, v), batch)
            return jax.vmap(row)(jnp.eye(layout.size)), jax.jacfwd(outputs)(vector)

        found, jacobian = jax.jit(both)(to_vector(layout, params))  # [n, n], [23, 3, n]
        logits = np.asarray(predicted(params, batch))
        p = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
        softmax = np.einsum("bi,ij->bij", p, np.eye(3)) - np.einsum("bi,bj->bij", p, p)
        wanted = np.einsum("bin,bij,bjm->nm", jacobian, softmax, jacobian) / 23

        np.testing.assert_allclose(found, wanted, atol=1e-14)
        np.testing.assert_allclose(dense(GAUSS_NEWTON, params, [batch]), wanted, atol=1e-14)
        assert np.max(np.abs(found - by_definition(classification, params, batch))) > 1e-3


def test_curvature_along_a_line_is_the_second_difference_of_the_loss() -> None:
    with jax.enable_x64(True):
        matrix, params = symmetric(VALUES), params_of()
        batch, layout = {"matrix": jnp.asarray(matrix)}, layout_of(params)
        d = to_direction(layout, jnp.asarray(np.cos(np.arange(N))))
        steps = np.array([0.0, -2.0, 0.5, 3.0])

        def along(d: Any) -> Any:
            loss = lambda a: quadratic_without_count(moved(params, [d], a[None]), batch)
            product = lambda c: hessian_product(
                quadratic_without_count, params, batch, jax.tree.map(lambda x: c * x, d)
            )
            return jax.vmap(loss)(jnp.asarray(steps)), jax.vmap(product)(jnp.arange(3.0))

        losses, products = jax.jit(along)(d)
        flat = np.cos(np.arange(N))
        slope, bend = flat @ matrix @ np.ones(N), flat @ matrix @ flat
        # An exact parabola.
        wanted = losses[0] + slope * steps + bend * steps**2 / 2
        np.testing.assert_allclose(losses, wanted, rtol=1e-12)
        for c in range(3):
            row = np.r_[products["a"][c], products["b"][c]]
            np.testing.assert_allclose(row, c * matrix @ flat, atol=1e-12)


def quartic(params: Any, batch: Any) -> jax.Array:
    """Returns a loss whose Hessian is diag(12 theta^2 - 2) / 2."""
    return jnp.sum(params["w"] ** 4 - params["w"] ** 2) / 2 + 0 * jnp.sum(batch)


def test_ends_over_a_plane_are_those_of_every_point_and_neighbours_help() -> None:
    with jax.enable_x64(True):
        theta = np.linspace(0.2, 1.0, 30)
        params, d = {"w": jnp.asarray(theta)}, {"w": jnp.asarray(np.cos(np.arange(30)))}
        points = np.linspace(0, 0.3, 4)[:, None]
        found = ends_over(
            quartic, params, [jnp.zeros(1)], [d], points, key=jax.random.key(0), tolerance=1e-4
        )
        wanted = 6 * (theta + points * np.cos(np.arange(30))) ** 2 - 1
        cold = [
            spectrum_ends(
                quartic,
                moved(params, [d], point),
                [jnp.zeros(1)],
                key=jax.random.key(1),
                tolerance=1e-4,
            ).num_products
            for point in points
        ]

        np.testing.assert_allclose(found.smallest, wanted.min(axis=1), atol=5e-3)
        np.testing.assert_allclose(found.largest, wanted.max(axis=1), rtol=1e-3)
        np.testing.assert_allclose(found.ratio, np.abs(found.smallest / found.largest))
        assert np.all(found.is_sign_certain == (np.abs(found.smallest) > 0.01))
        assert np.sum(found.num_products[1:]) <= np.sum(cold[1:])


def test_a_program_over_many_points_knows_when_what_it_reaches_is_exhausted() -> None:
    with jax.enable_x64(True):
        twice = np.diag(np.r_[np.full(20, 2.0), np.full(20, 5.0)])
        matrices = jnp.asarray(np.stack([twice, symmetric(VALUES)]))

        @jax.jit
        @jax.vmap
        def ends(matrix: jax.Array, start: jax.Array) -> Any:
            batch = {"matrix": matrix}
            options = dict(num_steps=9)
            return extreme_eigenvalues(
                quadratic_without_count, params_of(), batch, start, **options
            )

        low, high, bounds = ends(matrices, jax.random.normal(jax.random.key(0), (2, N)))
        np.testing.assert_allclose([low[0], high[0]], [2, 5], rtol=1e-12)
        np.testing.assert_allclose(bounds[0], 0, atol=1e-12)
        np.testing.assert_allclose([low[1], high[1]], [-5, 20], rtol=0.05)
        assert abs(low[1] + 5) <= bounds[1, 0] and abs(high[1] - 20) <= bounds[1, 1]
        assert np.all(bounds[1] > 0)


def test_curvature_of_half_precision_parameters_is_not_half_precise() -> None:
    params = {"a": jnp.ones(15, jnp.bfloat16), "b": jnp.ones(25), "count": 3}
    batches = [{"matrix": jnp.asarray(symmetric(VALUES), jnp.float32)}]
    found = eigenpairs(
        quadratic_without_count, params, batches, k=2, key=jax.random.key(0), tolerance=1e-6
    )

    np.testing.assert_allclose(found.values, [20, 9], rtol=1e-5)  # bfloat16 has 3 digits
    assert found.vectors[0]["a"].dtype == jnp.float32
    assert moved(params, found.vectors, [0.5, 0.5])["a"].dtype == jnp.bfloat16


def test_a_second_point_and_more_data_of_the_same_shape_compile_nothing() -> None:
    count = 0

    def counted(params: Any, batch: Any) -> jax.Array:
        nonlocal count
        count += 1
        return quadratic(params, batch)

    traced = []
    for seed in range(3):
        batches = [{"matrix": jnp.eye(6) * (seed + i)} for i in range(1, 4)]
        params = {"w": jnp.full((6,), float(seed))}
        eigenpairs(counted, params, batches, k=1, key=jax.random.key(seed))
        traced.append(count)

    assert 1 <= traced[0] <= 2 and traced[1:] == traced[:1] * 2


def sharded_values() -> list[float]:
    """Returns eigenvalues and a trace with the rows of every batch on all devices."""
    mesh = make_mesh({"data": -1})
    params = init_relu(0, (4, 5, 3), has_bias=True)
    batches = [jax.tree.map(np.asarray, labelled(seed, 16)) for seed in (1, 2)]
    batches = [place(batch, shardings(batch, (), mesh, "batch")) for batch in batches]
    top = eigenpairs(classification, params, batches, k=3, key=jax.random.key(0), tolerance=1e-6)
    size = trace(classification, params, batches, key=jax.random.key(0), num_products=4)
    return [*top.values.tolist(), size.value, size.stderr]


def test_eight_devices_find_what_one_finds(child: Child) -> None:
    code = (
        "import json, jax; from tests.landscape.test_curvature import sharded_values; "
        "assert jax.device_count() == 8; print(json.dumps(sharded_values()))"
    )
    done = child(code, devices=8, env={"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})
    assert done.returncode == 0, done.stderr
    many, one = json.loads(done.stdout), sharded_values()

    # Sums of float32 in another order; Lanczos stops at 1e-6.
    np.testing.assert_allclose(many, one, rtol=1e-5)
    assert len(set(one)) == 5


def test_bad_input_is_refused_in_one_line() -> None:
    params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 16)
    run = lambda **o: eigenpairs(classification, params, [batch], key=jax.random.key(0), **o)
    given = lambda batches, **o: averaged(classification, params, batches, **o)
    nan = jax.tree.map(lambda x: x * jnp.nan, params)
    for message, act in {
        "k=44: the Hessian has 43 eigenvalues": lambda: run(k=44),
        "44 Lanczos steps for 43 dimensions: expected 1 to 43": lambda: run(max_steps=44),
        "max_steps=3: 5 eigenvalues need as many": lambda: run(max_steps=3),
        "which='top': expected one of largest": lambda: run(which="top"),
        "frozen='conv' matches no parameter": lambda: run(frozen="conv"),
        "80 Lanczos steps for 43 dimensions": lambda: spectral_density(
            classification, params, [batch], key=jax.random.key(0)
        ),
        "batches is one dict: expected a list": lambda: given(batch),
        "batches is one tuple": lambda: given((batch["x"], batch["y"])),
        "can be iterated over only once": lambda: given(iter([batch])),
        "batches is empty": lambda: given([]),
        r"batches\[1\] has arrays of different lengths": lambda: given(
            [batch, {**batch, "w": jnp.ones(2)}]
        ),
        r"sizes=\[1, 2\]: expected 1 numbers": lambda: given([batch], sizes=[1, 2]),
        "step 1 is not finite": lambda: eigenpairs(
            classification, nan, [batch], key=jax.random.key(0)
        ),
        r"loss has shape \(16, 3\): expected one number": lambda: eigenpairs(
            predicted, params, [batch], key=jax.random.key(0)
        ),
        "start has length 0": lambda: run(start=jax.tree.map(jnp.zeros_like, params)),
        "direction is of another tree": lambda: run(start=params["dense_0"]),
    }.items():
        with pytest.raises(ValueError, match=message) as refused:
            act()
        assert "\n" not in str(refused.value)
    assert curvature.MAX_STEPS >= 100
