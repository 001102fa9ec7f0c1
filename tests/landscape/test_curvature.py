"""Eigenvalues against matrices written down: quadratics, deep linear networks, small networks."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.sharding import make_mesh, place, shardings
from landscape import lanczos
from landscape.curvature import eigenpairs, ends_over, extreme_eigenvalues, spectrum_ends
from landscape.density import spectral_density
from landscape.maps import curvature_map
from landscape.products import averaged
from landscape.traces import trace
from landscape.vectors import moved
from tests.landscape.problems import (
    VALUES,
    N,
    classification,
    dense,
    init_relu,
    labelled,
    params_of,
    predicted,
    quadratic_without_count,
    rounding,
    symmetric,
)
from tests.processes import Child


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
            # The bound is the residual itself, to the rounding of A v.
            np.testing.assert_allclose(left, residual, atol=rounding(VALUES, N))
        assert top.num_products <= N


def test_every_residual_bounds_the_error_of_its_value() -> None:
    with jax.enable_x64(True):
        batches = [{"matrix": jnp.asarray(symmetric(VALUES))}]
        operator = averaged(quadratic_without_count, params_of(), batches)
        start = jnp.asarray(np.random.default_rng(1).normal(size=N))
        for steps in (4, 8, 16):
            found = lanczos.decompose(operator.apply, start, steps)
            ritz = lanczos.ritz(found.alphas, found.betas)
            nearest = np.min(np.abs(ritz.values[:, None] - VALUES), axis=1)
            assert np.all(nearest <= ritz.residuals + rounding(VALUES, N))
            basis = np.asarray(found.basis[:steps])
            # Inner products of unit vectors.
            np.testing.assert_allclose(basis @ basis.T, np.eye(steps), atol=rounding(1, N))
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
        # Inner products of unit vectors, however exact the eigenvalues are.
        np.testing.assert_allclose(flat @ flat.T, np.eye(5), atol=rounding(1, N))


def test_quadrature_is_exact_with_as_many_steps_as_different_eigenvalues() -> None:
    with jax.enable_x64(True):
        values = np.r_[np.full(20, 0.0), np.full(15, 1.0), np.full(4, 3.0), 10.0]
        batches = [{"matrix": np.diag(values)}]  # signs hit all entries alike
        found = spectral_density(
            quadratic_without_count,
            params_of(),
            batches,
            num_steps=4,
            num_probes=2,
            key=jax.random.key(0),
        )

        for nodes, weights in zip(found.nodes, found.weights, strict=True):
            # Eigenvalues move as far as rounding moves the matrix: relative to the largest.
            np.testing.assert_allclose(nodes, [0, 1, 3, 10], rtol=0, atol=rounding(values, N))
            np.testing.assert_allclose(weights, np.array([20, 15, 4, 1]) / N, rtol=1e-10)
        mean, stderr = found.mean(lambda x: x**2)
        np.testing.assert_allclose(mean, np.mean(values**2), rtol=1e-10)
        assert stderr < rounding(values**2, N)  # both probes say the same, to the rounding of x^2
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
        batch = {"x": x, "y": x @ bases[0] @ np.diag(s) @ bases[3].T}
        batches = [jax.tree.map(lambda a, i=i: a[i : i + 6], batch) for i in (0, 6)]
        powers = np.arange(1, depth + 1)
        left, right = (s[:, None] ** (2 * p / depth) for p in (depth - powers, powers - 1))
        wanted = np.sort(np.einsum("il,jl->ij", left, right).ravel())[::-1]
        spectrum = np.linalg.eigvalsh(dense(deep_linear, params, batches))[::-1]

        # Of a matrix of 48 rows, relative to its largest eigenvalue.
        least = rounding(wanted, len(spectrum))
        np.testing.assert_allclose(spectrum[:16], wanted, rtol=0, atol=least)
        np.testing.assert_allclose(spectrum[16:], 0, atol=least)
        found = eigenpairs(
            deep_linear, params, batches, k=3, key=jax.random.key(0), tolerance=1e-10
        )
        np.testing.assert_allclose(found.values[0], depth * s[0] ** (2 - 2 / depth), rtol=1e-8)
        # The second is there twice; a single vector may see one of the two only.
        nearest = np.min(np.abs(found.values[:, None] - wanted), axis=1)
        np.testing.assert_allclose(nearest, 0, atol=1e-7)
        np.testing.assert_allclose(found.values[1], wanted[1], rtol=1e-8)


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


def test_a_map_has_the_ends_of_every_point_and_the_curvature_of_its_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    with jax.enable_x64(True):
        theta, d, e = np.linspace(0.2, 1.0, 30), np.cos(np.arange(30)), np.sin(np.arange(30))
        axes = (np.array([-0.2, 0.0, 0.1]), np.array([0.0, 0.3]))
        tree = lambda x: {"w": jnp.asarray(x)}
        make = lambda: curvature_map(
            quartic,
            tree(theta),
            [jnp.zeros(1)],
            (tree(d), tree(e)),
            axes,
            key=jax.random.key(0),
            tolerance=1e-4,
            keep=True,
        )
        found = make().values
        a, b = (x[..., None] for x in np.meshgrid(*axes, indexing="ij"))
        wanted = 6 * (theta + a * d + b * e) ** 2 - 1  # [3, 2, 30], a diagonal Hessian
        rows = [[np.sum(wanted * x * y, axis=-1) for y in (d, e)] for x in (d, e)]
        low, high = np.moveaxis(
            np.linalg.eigvalsh(np.moveaxis(np.array(rows), (0, 1), (2, 3))), -1, 0
        )

        np.testing.assert_allclose(found["smallest"], wanted.min(axis=-1), atol=5e-3)
        np.testing.assert_allclose(found["largest"], wanted.max(axis=-1), rtol=1e-3)
        np.testing.assert_allclose(found["ratio"], np.abs(found["smallest"] / found["largest"]))
        np.testing.assert_allclose(found["plane_smallest"], low, rtol=1e-10)
        np.testing.assert_allclose(found["plane_largest"], high, rtol=1e-10)
        monkeypatch.setattr("landscape.maps.ends_over", None)  # from the cache, or not at all
        for name, value in make().values.items():
            np.testing.assert_array_equal(value, found[name])


def test_a_map_is_refused_where_its_plane_moves_what_is_frozen() -> None:
    tree = {"w": np.ones(3, np.float32), "bias": np.ones(2, np.float32)}
    axes, options = (np.arange(3.0), np.arange(3.0)), dict(key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"directions\[0\] moves parameters that frozen='bias'"):
        curvature_map(quartic, tree, [jnp.zeros(1)], (tree, tree), axes, frozen="bias", **options)
    with pytest.raises(ValueError, match="1 axes, 2 directions: a plane has two"):
        curvature_map(quartic, tree, [jnp.zeros(1)], (tree, tree), axes[:1], **options)


def test_a_program_over_many_points_knows_when_what_it_reaches_is_exhausted() -> None:
    with jax.enable_x64(True):
        twice = np.diag(np.r_[np.full(20, 2.0), np.full(20, 5.0)])
        matrices = np.stack([twice, symmetric(VALUES)])

        @jax.jit
        @jax.vmap
        def ends(matrix: jax.Array, start: jax.Array) -> Any:
            batch = {"matrix": matrix}
            options = dict(num_steps=9)
            return extreme_eigenvalues(
                quadratic_without_count, params_of(), batch, start, **options
            )

        starts = np.random.default_rng(0).normal(size=(2, N))
        low, high, bounds = jax.device_get(ends(matrices, starts))
        np.testing.assert_allclose([low[0], high[0]], [2, 5], rtol=1e-12)
        # Exhausted: what is left of the next vector is the rounding of products up to 5.
        np.testing.assert_allclose(bounds[0], 0, atol=rounding(5, N))
        np.testing.assert_allclose([low[1], high[1]], [-5, 20], rtol=0.05)
        assert abs(low[1] + 5) <= bounds[1, 0] and abs(high[1] - 20) <= bounds[1, 1]
        assert np.all(bounds[1] > 0)


def test_curvature_of_half_precision_parameters_is_not_half_precise() -> None:
    ones = np.ones(25, np.float32)
    params = {"a": jnp.asarray(ones[:15].astype(jnp.bfloat16)), "b": jnp.asarray(ones), "count": 3}
    batches = [{"matrix": symmetric(VALUES).astype(np.float32)}]
    found = eigenpairs(
        quadratic_without_count, params, batches, k=2, key=jax.random.key(0), tolerance=1e-6
    )

    np.testing.assert_allclose(found.values, [20, 9], rtol=1e-5)  # bfloat16 has 3 digits
    assert found.vectors[0]["a"].dtype == jnp.float32
    at = jax.jit(lambda params, vectors: moved(params, vectors, [0.5, 0.5]))
    assert at(params, found.vectors)["a"].dtype == jnp.bfloat16


def sharded_values() -> list[float]:
    """Returns eigenvalues and a trace with the rows of every batch on all devices."""
    mesh = make_mesh({"data": -1})
    params = init_relu(0, (4, 5, 3), has_bias=True)
    batches = [jax.tree.map(np.asarray, labelled(seed, 16)) for seed in (1, 2)]
    batches = [place(batch, shardings(batch, (), mesh, "batch")) for batch in batches]
    top = eigenpairs(classification, params, batches, k=3, key=jax.random.key(0), tolerance=1e-6)
    size = trace(classification, params, batches, key=jax.random.key(0), num_products=4)
    return [*top.values.tolist(), size.value, size.stderr]


@pytest.mark.slow  # eight devices compile the products again; those of surfaces are one by default
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
    nan = jax.tree.map(lambda x: np.full_like(x, np.nan), params)
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
        "start has length 0": lambda: run(start=jax.tree.map(np.zeros_like, params)),
        "direction is of another tree": lambda: run(start=params["dense_0"]),
    }.items():
        with pytest.raises(ValueError, match=message) as refused:
            act()
        assert "\n" not in str(refused.value)
