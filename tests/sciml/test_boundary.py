"""Boundary conditions: stencils, imposed fields, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.boundary import (
    KINDS,
    BoundaryCondition,
    FaceData,
    apply_functionals,
    axis_length,
    check_condition,
    check_face,
    functionals,
    impose,
    stencil,
    violation,
)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_stencil_is_exact_on_polynomials_and_of_its_order(order: int) -> None:
    weights = np.asarray(stencil(order))
    nodes = np.arange(order + 1.0)
    for degree in range(order + 1):
        slope = weights @ (1 + nodes) ** degree
        assert slope == pytest.approx(degree, abs=1e-11)
    errors = [abs(weights @ np.exp(h * nodes) / h - 1) for h in (0.02, 0.01)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_published_coefficients() -> None:
    np.testing.assert_allclose(stencil(3), (-11 / 6, 3, -3 / 2, 1 / 3), atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [0, 1])
def test_imposed_conditions_hold_once_and_twice_alike(kind, axis: int) -> None:
    key_field, key_data = jax.random.split(jax.random.key(1))
    field = jax.random.normal(key_field, (12, 9, 2, 3))
    condition = BoundaryCondition(kind, axis)
    others = (9, 12)[axis]
    data = FaceData(*jax.random.normal(key_data, (2, others, 2, 3)))

    @jax.jit
    def imposed(field):
        out = impose(field, condition, data)
        return out, *(jnp.max(violation(x, condition, data)) for x in (field, out))

    once, missed, left = imposed(field)
    twice = imposed(once)[0]

    assert missed > 0.1
    # Slopes: float32 end values times 11 / h.
    assert left <= (2e-4 if kind == "neumann" else 0)
    np.testing.assert_allclose(once, twice, atol=1e-6)
    inside = [slice(1, -1) if a == axis else slice(None) for a in (0, 1)]
    np.testing.assert_array_equal(once[tuple(inside)], field[tuple(inside)])


@pytest.mark.parametrize("ends", ["low", "high"])
def test_an_end_without_a_condition_is_left_alone(ends) -> None:
    field = jax.random.normal(jax.random.key(0), (10, 1, 1))
    condition = BoundaryCondition("dirichlet", 0, ends)
    data = FaceData(jnp.full((1, 1), 5.0), jnp.full((1, 1), 7.0))

    out = impose(field, condition, data)

    free = -1 if ends == "low" else 0
    assert out[free, 0, 0] == field[free, 0, 0]
    assert out[-1 - free, 0, 0] == (5.0 if ends == "low" else 7.0)


def test_functionals_of_a_slope_have_the_unit_of_the_axis() -> None:
    x = np.linspace(0, 4.0, 41)
    field = jnp.asarray(np.sin(x), jnp.float32)[:, None, None]

    rows = functionals(BoundaryCondition("neumann", length=4.0), 41)

    np.testing.assert_allclose(
        apply_functionals(rows, field, 0)[:, 0, 0], [1, np.cos(4.0)], atol=1e-3
    )


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (dict(kind="robin"), "kind='robin'"),
        (dict(axis=3), "axis=3"),
        (dict(ends="left"), "ends='left'"),
        (dict(kind="periodic", ends="low"), "ties both ends"),
        (dict(order=9), "order=9"),
        (dict(length=-1.0), "length=-1.0"),
        (dict(kind="neumann", order=4), "6 points: neumann conditions need 10"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused_in_one_line(field, message: str) -> None:
    condition = BoundaryCondition("dirichlet")._replace(**field)
    with pytest.raises(ValueError, match=message):
        check_condition(condition, (6, 7))


def test_boundary_data_of_the_wrong_shape_are_refused() -> None:
    data = FaceData(jnp.zeros((5, 2, 1)), jnp.zeros((4, 2, 1)))
    with pytest.raises(ValueError, match=r"'high' of axis 0 have shape \(4, 2, 1\), expected"):
        check_face(data, BoundaryCondition("dirichlet"), (9, 5, 2, 1))


def test_a_grid_that_is_not_uniform_is_refused() -> None:
    x = np.linspace(1, 3, 1000, dtype=np.float32)
    assert axis_length(x) == pytest.approx(2)
    with pytest.raises(ValueError, match="spacings from 0.1 to 0.3"):
        axis_length(np.asarray([0, 0.1, 0.4, 0.5]))
    with pytest.raises(ValueError, match="increasing"):
        axis_length(np.asarray([1.0, 0.5, 0.0]))
