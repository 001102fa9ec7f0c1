"""Gradient functions against their definitions: two-pass SAM, masks, accumulation, fixed order."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from common import gradients
from common.errors import UserError
from common.loop_fields import GRADIENT
from tests.common.small_problem import KEY, close, differ, loss, noisy_loss, problem

PyTree = Any
COMBINED = "sam+accumulated+masked"


pytestmark = pytest.mark.usefixtures("float64")  # rounding must not hide a wrong term


# One program each: what adds in a fixed order is the same sum of slices.
BOTH = pytest.mark.parametrize(
    "wrap", [pytest.param(gradients.accumulated, marks=pytest.mark.slow), gradients.ordered]
)


def config_of(*, deterministic: bool = False, shards: int = 4, **section: Any) -> ConfigDict:
    """The fields of a config that gradients read."""
    fields = {"deterministic": deterministic, "logical_shards": shards}
    return ConfigDict({**fields, "gradient": {**GRADIENT, **section}})


def gradient(kind: gradients.Gradient, function: gradients.Loss = loss, rows: int = 24) -> Any:
    """Returns ((value, metrics), grads) of a gradient function on the problem."""
    params, data, batch = problem(rows)
    return jax.jit(kind(function))(params, data, batch, jax.random.key(KEY))


def program(kind: gradients.Gradient) -> str:
    """Returns what a gradient function computes on the problem, operation by operation."""
    arguments = (*problem(), jax.random.key(KEY))
    return str(jax.make_jaxpr(kind(noisy_loss))(*arguments))


def test_the_plain_gradient_is_the_derivative_of_the_loss() -> None:
    params, data, batch = problem()
    (value, _), grads = gradient(gradients.plain)
    leaves, tree = jax.tree.flatten(params)
    directions = jax.tree.unflatten(
        tree, [jnp.cos(jnp.arange(x.size)).reshape(x.shape) for x in leaves]
    )

    @jax.jit
    def along(t: float) -> jax.Array:
        return loss(optax.tree.add_scale(params, t, directions), data, batch, jax.random.key(0))[0]

    slope = (along(1e-5) - along(-1e-5)) / 2e-5  # error of order 1e-10
    assert np.isclose(slope, optax.tree.vdot(grads, directions), rtol=1e-7)
    close(value, along(0.0))


@pytest.mark.parametrize("function", [pytest.param(loss, marks=pytest.mark.slow), noisy_loss])
def test_sam_is_the_gradient_at_the_end_of_an_ascent_step_of_length_rho(
    function: gradients.Loss,
) -> None:
    params, data, batch = problem()
    rho = 0.3

    @jax.jit
    @jax.value_and_grad
    def slope(leaves: PyTree) -> jax.Array:
        return function(leaves, data, batch, jax.random.key(KEY))[0]

    value, first = slope(params)
    norm = np.sqrt(sum(np.sum(np.asarray(g) ** 2) for g in jax.tree.leaves(first)))
    worst = jax.tree.map(lambda p, g: p + rho * g / norm, params, first)

    (got, _), grads = gradient(gradients.sam(rho), function)

    close(grads, slope(worst)[1])
    close(got, value)  # reported at the parameters, not at the worst point
    assert differ(grads, first)
    length = optax.tree.norm(optax.tree.sub(worst, params))
    assert np.isclose(length, rho, rtol=1e-12)


def test_sam_without_radius_is_its_base() -> None:
    close(gradient(gradients.sam(0.0), noisy_loss), gradient(gradients.plain, noisy_loss))


def test_sam_of_a_flat_loss_is_finite() -> None:
    def flat(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        value, metrics = loss(params, data, batch, key)
        return 0.0 * value, metrics

    _, grads = gradient(gradients.sam(0.1), flat)

    assert all(np.array_equal(g, np.zeros_like(g)) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "base",
    [
        gradients.sam(0.2),
        *(
            pytest.param(base, marks=pytest.mark.slow)
            for base in (gradients.plain, gradients.accumulated(3), gradients.ordered(4))
        ),
    ],
)
def test_a_masked_gradient_is_that_of_its_base_on_the_match_and_none_elsewhere(
    base: gradients.Gradient,
) -> None:
    params, data, batch = problem()

    def of_the_match(chosen: PyTree, *rest: Any) -> Any:
        return loss({**params, "first": {**params["first"], **chosen}}, *rest)

    chosen = {"kernel": params["first"]["kernel"]}
    of_the_match = jax.jit(base(of_the_match))
    wanted_value, wanted = of_the_match(chosen, data, batch, jax.random.key(KEY))

    value, grads = gradient(gradients.masked(r"^params/first/kernel$", base=base))

    close(grads["first"]["kernel"], wanted["kernel"])
    close(value, wanted_value)
    assert grads["first"]["bias"] is None
    assert grads["second"]["kernel"] is None


def test_sam_climbs_along_what_is_trained_only() -> None:
    inside = gradient(gradients.masked("second", base=gradients.sam(0.3)))
    outside = gradient(gradients.sam(0.3, base=gradients.masked("second")))

    close(inside, outside)
    assert differ(inside[1]["second"], gradient(gradients.masked("second"))[1]["second"])


def test_a_mask_that_matches_nothing_is_an_error_that_lists_the_paths() -> None:
    with pytest.raises(UserError, match=r"paths='third' matches no parameter.*params/first/bias"):
        gradient(gradients.masked("third"))


@pytest.mark.parametrize("wrap", [gradients.accumulated, gradients.ordered])
@pytest.mark.parametrize(
    "parts", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(8, marks=pytest.mark.slow)]
)
def test_the_mean_over_slices_is_the_plain_gradient(
    wrap: Callable[..., gradients.Gradient], parts: int
) -> None:
    close(gradient(wrap(parts)), gradient(gradients.plain))


@BOTH
def test_slices_see_their_rows_and_a_key_of_their_own(
    wrap: Callable[..., gradients.Gradient],
) -> None:
    params, data, batch = problem(6)
    by_hand, plain = [], jax.jit(jax.value_and_grad(noisy_loss, has_aux=True))
    for i in range(3):  # rows apart: devices that hold a part of the batch hold a part of each
        chosen = slice(i, None, 3) if wrap is gradients.accumulated else slice(2 * i, 2 * i + 2)
        rows = jax.tree.map(lambda x, chosen=chosen: x[chosen], batch)
        key = jax.random.fold_in(jax.random.key(KEY), i)
        by_hand.append(plain(params, data, rows, key))

    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *by_hand)

    close(gradient(wrap(3), noisy_loss, rows=6), mean)


@BOTH
def test_an_entry_of_the_batch_without_axes_is_in_every_slice(
    wrap: Callable[..., gradients.Gradient],
) -> None:
    params, data, batch = problem()

    def scaled(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        value, metrics = loss(params, data, batch, key)
        return batch["epoch"] * value, metrics

    arguments = (params, data, {**batch, "epoch": jnp.asarray(3.0)}, jax.random.key(KEY))

    (value, _), grads = jax.jit(wrap(4)(scaled))(*arguments)

    (wanted, _), plain = gradient(gradients.plain)
    close((value, grads), jax.tree.map(lambda x: 3 * x, (wanted, plain)))


@BOTH
def test_slices_of_half_precision_are_summed_in_float32(
    wrap: Callable[..., gradients.Gradient],
) -> None:
    def linear(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        return jnp.sum(params * batch["x"]), {}

    x = jnp.ones(8, jnp.bfloat16).at[0].set(256)  # 256 + 1 = 256 in bfloat16
    params = jnp.ones((), jnp.bfloat16)

    (value, _), grads = wrap(8)(linear)(params, {}, {"x": x}, jax.random.key(KEY))

    assert value.dtype == grads.dtype == jnp.bfloat16
    assert value == grads == jnp.bfloat16((256 + 7) / 8)


@BOTH
def test_sam_over_slices_is_sam_of_the_whole_batch(wrap: Callable[..., gradients.Gradient]) -> None:
    close(gradient(gradients.sam(0.3, base=wrap(4))), gradient(gradients.sam(0.3)))
    # The other way round every slice climbs on its own: "m-SAM", another gradient.
    assert differ(gradient(wrap(4, base=gradients.sam(0.3)))[1], gradient(gradients.sam(0.3))[1])


@pytest.mark.parametrize(
    ("wrap", "knob"), [(gradients.accumulated, "parts"), (gradients.ordered, "logical_shards")]
)
def test_rows_that_do_not_divide_are_an_error_that_names_the_knob(
    wrap: Callable[..., gradients.Gradient], knob: str
) -> None:
    with pytest.raises(UserError, match=rf"24 rows .*{knob}=5.*config\.batch_size"):
        gradient(wrap(5))
    params, data, batch = problem()
    batch["y"] = batch["y"][:12]  # divides as well, but row 3 of x would meet row 3 of another y
    with pytest.raises(UserError, match=rf"{knob}=4 .*batch/x has 24, batch/y has 12"):
        wrap(4)(loss)(params, data, batch, jax.random.key(KEY))


def test_a_device_count_that_does_not_divide_the_shards_is_an_error_that_names_the_knob() -> None:
    mesh = jax.sharding.AbstractMesh((3,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    arguments = (*problem(), jax.random.key(KEY))  # no array can be made on such a mesh

    with (
        jax.sharding.use_abstract_mesh(mesh),
        pytest.raises(UserError, match=r"config\.logical_shards=4: .* number of devices, 3"),
    ):
        jax.eval_shape(gradients.ordered(4)(loss), *arguments)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda base: base, id="plain", marks=pytest.mark.slow),
        pytest.param(lambda base: gradients.sam(0.3, base=base), id="sam"),
    ],
)
def test_inside_a_fixed_order_plain_gradients_are_ordered_once(
    wrap: Callable[[gradients.Gradient], gradients.Gradient],
) -> None:
    free = gradient(wrap(gradients.plain), noisy_loss)
    wanted = gradient(wrap(gradients.ordered(3)), noisy_loss)

    with gradients.following(config_of(deterministic=True, shards=3)):
        close(gradient(wrap(gradients.plain), noisy_loss), wanted)
    with gradients.following(
        config_of(deterministic=True, shards=4)
    ):  # an order that the step chooses itself comes first
        close(gradient(wrap(gradients.ordered(3)), noisy_loss), wanted)
    close(gradient(wrap(gradients.plain), noisy_loss), free)
    assert differ(wanted[1], free[1])


def test_a_fixed_order_refuses_a_step_that_takes_no_gradient_of_ours() -> None:
    with pytest.raises(UserError, match=r"config\.deterministic=True: .*gradient_step") as info:
        with gradients.following(config_of(deterministic=True, shards=3)):
            gradient(lambda loss: jax.value_and_grad(loss, has_aux=True))
    assert "\n" not in str(info.value)
    with (
        pytest.raises(ZeroDivisionError),
        gradients.following(config_of(deterministic=True, shards=3)),
    ):  # the first error is told
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        ({}, gradients.plain),
        ({"name": "sam", "rho": 0.3}, gradients.sam(0.3)),
        ({"name": "masked", "paths": "second"}, gradients.masked("second")),
        ({"name": "accumulated", "parts": 3}, gradients.accumulated(3)),
        ({"name": "ordered"}, gradients.ordered(4)),
        (
            {"name": COMBINED, "rho": 0.3, "parts": 2, "paths": "second"},
            gradients.sam(0.3, base=gradients.accumulated(2, base=gradients.masked("second"))),
        ),
    ],
    ids=lambda value: value.get("name", "plain") if isinstance(value, dict) else "",
)
def test_the_config_names_a_gradient_or_several_the_outermost_first(
    section: dict[str, Any], wanted: gradients.Gradient
) -> None:
    config = config_of(**section)
    with gradients.following(config):  # nothing is asked for that is not taken
        found = program(gradients.make_gradient(config))

    assert found == program(wanted)
    assert (found == program(gradients.plain)) == (section == {})


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ({"name": "smm"}, ("config.gradient.name='smm'", 'did you mean "sam"', "plain", "joined")),
        ({"name": "sam+sam"}, ("config.gradient.name='sam+sam'", "'sam' is there twice")),
        ({"name": "sam+"}, ("config.gradient.name='sam+': '' is unknown",)),
        ({"name": "sam", "rho": -0.1}, ("config.gradient.rho=-0.1", "at least 0")),
        ({"name": "sam", "rho": float("inf")}, ("config.gradient.rho=inf", "finite")),
        ({"name": "masked"}, ("config.gradient.paths=''", "regular expression")),
        ({"name": "masked", "paths": "("}, ("config.gradient.paths='('", "no regular expression")),
        ({"name": "accumulated"}, ("config.gradient.parts=0", "at least 1")),
        (
            {"rho": 0.1},
            ("config.gradient.rho=0.1: only sam or sam_before reads it", "name='plain'"),
        ),
        ({"name": "sam", "parts": 2}, ("config.gradient.parts=2: only accumulated", "'sam'")),
    ],
)
def test_a_gradient_that_makes_no_sense_is_one_line_with_its_field(
    section: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as error:
        gradients.make_gradient(config_of(**section))

    assert all(part in str(error.value) for part in parts), error.value
    assert "\n" not in str(error.value)


def test_every_gradient_can_be_named_and_reads_fields_of_the_config() -> None:
    read = {field for name in gradients.GRADIENTS for field in gradients.fields_of(name)}

    assert read == {*GRADIENT, *gradients.OF_CONFIG} - {"name"}


def test_a_step_that_ignores_the_gradient_of_the_config_is_refused() -> None:
    config = config_of(name="sam")
    other = gradients.make_gradient(config_of())

    for kind in (gradients.sam(0.05), other):
        with pytest.raises(UserError, match=r"config\.gradient\.name='sam': .*make_gradient"):
            with gradients.following(config):
                gradient(kind)
