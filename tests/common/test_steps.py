"""Gradient functions against their definitions: two-pass SAM, masks, accumulation, fixed order."""

from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common import steps
from common.errors import UserError
from common.optim import OPTIMIZERS, make_optimizer

PyTree = Any
KEY = 7


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Rounding must not hide a wrong term."""
    with jax.enable_x64(True):
        yield


def problem(rows: int = 24) -> tuple[PyTree, PyTree, PyTree]:
    """Params, data and batch of a two-layer regression."""
    random = np.random.default_rng(0)
    params = {
        "first": {"kernel": random.standard_normal((3, 5)), "bias": random.standard_normal(5)},
        "second": {"kernel": random.standard_normal((5, 2))},
    }
    batch = {"x": random.standard_normal((rows, 3)), "y": random.standard_normal((rows, 2))}
    return jax.tree.map(jnp.asarray, (params, {"scale": np.float64(0.5)}, batch))


def loss(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
    """The mean over the rows of a squared error; no noise."""
    del key
    hidden = jnp.tanh(batch["x"] @ params["first"]["kernel"] + params["first"]["bias"][None])
    error = jnp.sum((hidden @ params["second"]["kernel"] - batch["y"]) ** 2, axis=-1)
    return data["scale"] * jnp.mean(error), {"first_row_free": jnp.mean(jnp.abs(error))}


def noisy_loss(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
    """The same loss on inputs with noise from the key."""
    x = batch["x"] + jax.random.normal(key, batch["x"].shape)
    return loss(params, data, {**batch, "x": x}, key)


def gradient(kind: steps.Gradient, function: steps.Loss = loss, rows: int = 24) -> Any:
    """Returns ((value, metrics), grads) of a gradient function on the problem."""
    params, data, batch = problem(rows)
    return jax.jit(kind(function))(params, data, batch, jax.random.key(KEY))


def close(one: PyTree, two: PyTree) -> None:
    """Float64 sums of a few dozen terms of order 1."""
    chex.assert_trees_all_close(one, two, rtol=1e-12, atol=1e-12)


def differ(one: PyTree, two: PyTree) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return any(bool(jnp.max(jnp.abs(a - b)) > 1e-3) for a, b in pairs)


def test_the_plain_gradient_is_the_derivative_of_the_loss() -> None:
    params, data, batch = problem()
    (value, _), grads = gradient(steps.plain)
    leaves, tree = jax.tree.flatten(params)
    directions = jax.tree.unflatten(
        tree, [jnp.cos(jnp.arange(x.size)).reshape(x.shape) for x in leaves]
    )

    def along(t: float) -> jax.Array:
        return loss(optax.tree.add_scale(params, t, directions), data, batch, jax.random.key(0))[0]

    slope = (along(1e-5) - along(-1e-5)) / 2e-5  # error of order 1e-10
    assert np.isclose(slope, optax.tree.vdot(grads, directions), rtol=1e-7)
    close(value, along(0.0))


@pytest.mark.parametrize("function", [loss, noisy_loss])
def test_sam_is_the_gradient_at_the_end_of_an_ascent_step_of_length_rho(
    function: steps.Loss,
) -> None:
    params, data, batch = problem()
    rho = 0.3

    def value(leaves: PyTree) -> jax.Array:
        return function(leaves, data, batch, jax.random.key(KEY))[0]

    first = jax.grad(value)(params)
    norm = np.sqrt(sum(np.sum(np.asarray(g) ** 2) for g in jax.tree.leaves(first)))
    worst = jax.tree.map(lambda p, g: p + rho * g / norm, params, first)

    (got, _), grads = gradient(steps.sam(rho), function)

    close(grads, jax.grad(value)(worst))
    close(got, value(params))  # reported at the parameters, not at the worst point
    assert differ(grads, first)
    length = optax.tree.norm(optax.tree.sub(worst, params))
    assert np.isclose(length, rho, rtol=1e-12)


def test_a_step_with_sam_is_the_step_of_optax_sam() -> None:
    params, data, batch = problem()
    key, rate, rho = jax.random.key(KEY), 0.1, 0.3
    step = steps.gradient_step(loss, optax.sgd(rate), gradient=steps.sam(rho))
    state = steps.init_train_state(params, optax.sgd(rate))
    new_state, _ = step(state, data, batch, key)

    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    opaque = optax.contrib.sam(optax.sgd(rate), ascent, opaque_mode=True, reset_state=False)

    def grad_of(point: PyTree, _: Any) -> PyTree:
        return jax.grad(lambda p: loss(p, data, batch, key)[0])(point)

    grads = grad_of(params, None)
    updates, _ = opaque.update(grads, opaque.init(params), params, grad_fn=grad_of)
    close(new_state.params, optax.apply_updates(params, updates))


def test_sam_without_radius_is_its_base() -> None:
    close(gradient(steps.sam(0.0), noisy_loss), gradient(steps.plain, noisy_loss))


def test_sam_of_a_flat_loss_is_finite() -> None:
    def flat(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        value, metrics = loss(params, data, batch, key)
        return 0.0 * value, metrics

    _, grads = gradient(steps.sam(0.1), flat)

    assert all(np.array_equal(g, np.zeros_like(g)) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "base", [steps.plain, steps.sam(0.2), steps.accumulated(3), steps.ordered(4)]
)
def test_a_masked_gradient_is_that_of_its_base_on_the_match_and_none_elsewhere(
    base: steps.Gradient,
) -> None:
    params, data, batch = problem()

    def of_the_match(chosen: PyTree, *rest: Any) -> Any:
        return loss({**params, "first": {**params["first"], **chosen}}, *rest)

    chosen = {"kernel": params["first"]["kernel"]}
    wanted_value, wanted = base(of_the_match)(chosen, data, batch, jax.random.key(KEY))

    value, grads = gradient(steps.masked(r"^params/first/kernel$", base=base))

    close(grads["first"]["kernel"], wanted["kernel"])
    close(value, wanted_value)
    assert grads["first"]["bias"] is None
    assert grads["second"]["kernel"] is None


def constant() -> optax.GradientTransformation:
    """An optimizer that moves everything, whatever the gradient."""
    return optax.stateless(lambda updates, params: jax.tree.map(jnp.ones_like, updates))


@pytest.mark.parametrize("name", [*OPTIMIZERS, "constant"])
def test_a_masked_step_leaves_the_rest_as_it_is_whatever_the_optimizer_does(name: str) -> None:
    params, data, batch = problem()
    decay = {"num_steps": 9, "learning_rate": 0.1, "weight_decay": 0.1, "momentum": 0.9}
    optimizer = constant() if name == "constant" else make_optimizer(name=name, **decay)

    def step(gradient: steps.Gradient, state: PyTree) -> PyTree:
        one = steps.gradient_step(loss, optimizer, gradient=gradient)
        return one(state, data, batch, jax.random.key(KEY))[0]

    @jax.jit
    def two_steps(params: PyTree) -> PyTree:  # the first leaves momentum behind
        before = step(steps.plain, steps.init_train_state(params, optimizer))
        return before.params, step(steps.masked("second"), before).params

    before, after = two_steps(params)

    chex.assert_trees_all_equal(after["first"], before["first"])
    assert differ(before["first"], params["first"])
    assert differ(after["second"], before["second"])


def test_sam_climbs_along_what_is_trained_only() -> None:
    inside = gradient(steps.masked("second", base=steps.sam(0.3)))
    outside = gradient(steps.sam(0.3, base=steps.masked("second")))

    close(inside, outside)
    assert differ(inside[1]["second"], gradient(steps.masked("second"))[1]["second"])


def test_a_mask_that_matches_nothing_is_an_error_that_lists_the_paths() -> None:
    with pytest.raises(UserError, match=r"'third' matches no parameter.*params/first/bias"):
        gradient(steps.masked("third"))


def test_splitting_by_path_and_joining_gives_the_tree_back() -> None:
    params, _, _ = problem()
    for pattern in ("kernel", "bias", "first", "params"):
        chosen, rest = steps.split_by_path(params, pattern)

        chex.assert_trees_all_equal(steps.join(chosen, rest), params)
        chex.assert_trees_all_equal(steps.join(rest, chosen), params)
        count = len(jax.tree.leaves(chosen)) + len(jax.tree.leaves(rest))
        assert count == len(jax.tree.leaves(params))


@pytest.mark.parametrize("wrap", [steps.accumulated, steps.ordered])
@pytest.mark.parametrize("parts", [1, 3, 8])
def test_the_mean_over_slices_is_the_plain_gradient(
    wrap: Callable[..., steps.Gradient], parts: int
) -> None:
    close(gradient(wrap(parts)), gradient(steps.plain))


@pytest.mark.parametrize("wrap", [steps.accumulated, steps.ordered])
def test_slices_see_their_rows_and_a_key_of_their_own(wrap: Callable[..., steps.Gradient]) -> None:
    params, data, batch = problem(6)
    by_hand = []
    for i in range(3):
        rows = jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], batch)
        key = jax.random.fold_in(jax.random.key(KEY), i)
        by_hand.append(jax.value_and_grad(noisy_loss, has_aux=True)(params, data, rows, key))

    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *by_hand)

    close(gradient(wrap(3), noisy_loss, rows=6), mean)


@pytest.mark.parametrize("wrap", [steps.accumulated, steps.ordered])
def test_an_entry_of_the_batch_without_axes_is_in_every_slice(
    wrap: Callable[..., steps.Gradient],
) -> None:
    params, data, batch = problem()

    def scaled(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        value, metrics = loss(params, data, batch, key)
        return batch["epoch"] * value, metrics

    arguments = (params, data, {**batch, "epoch": jnp.asarray(3.0)}, jax.random.key(KEY))

    (value, _), grads = jax.jit(wrap(4)(scaled))(*arguments)

    (wanted, _), plain = gradient(steps.plain)
    close((value, grads), jax.tree.map(lambda x: 3 * x, (wanted, plain)))


@pytest.mark.parametrize("wrap", [steps.accumulated, steps.ordered])
def test_slices_of_half_precision_are_summed_in_float32(
    wrap: Callable[..., steps.Gradient],
) -> None:
    def linear(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        return jnp.sum(params * batch["x"]), {}

    x = jnp.ones(8, jnp.bfloat16).at[0].set(256)  # 256 + 1 = 256 in bfloat16
    params = jnp.ones((), jnp.bfloat16)

    (value, _), grads = wrap(8)(linear)(params, {}, {"x": x}, jax.random.key(KEY))

    assert value.dtype == grads.dtype == jnp.bfloat16
    assert value == grads == jnp.bfloat16((256 + 7) / 8)


def test_the_norm_of_many_half_gradients_is_that_of_the_numbers_they_hold() -> None:
    params = {"w": jnp.zeros(100_000, jnp.float16)}
    optimizer = make_optimizer(num_steps=9, learning_rate=0.5, name="sgd", clip_norm=1.0)

    def slope(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        return jnp.sum(params["w"].astype(jnp.float32)), {}

    state = steps.init_train_state(params, optimizer)
    step = jax.jit(steps.gradient_step(slope, optimizer))
    state, metrics = step(state, {}, {}, jax.random.key(KEY))

    assert np.isclose(metrics["grad_norm"], np.sqrt(100_000), rtol=1e-6)
    # Clipped to length 1, then half of it: float16 holds it to three digits.
    assert np.allclose(state.params["w"], -0.5 / np.sqrt(100_000), rtol=1e-3)
    assert state.params["w"].dtype == jnp.float16


@pytest.mark.parametrize("wrap", [steps.accumulated, steps.ordered])
def test_sam_over_slices_is_sam_of_the_whole_batch(wrap: Callable[..., steps.Gradient]) -> None:
    close(gradient(steps.sam(0.3, base=wrap(4))), gradient(steps.sam(0.3)))
    # The other way round every slice climbs on its own: "m-SAM", another gradient.
    assert differ(gradient(wrap(4, base=steps.sam(0.3)))[1], gradient(steps.sam(0.3))[1])


@pytest.mark.parametrize(
    ("wrap", "knob"), [(steps.accumulated, "microbatches"), (steps.ordered, "logical_shards")]
)
def test_rows_that_do_not_divide_are_an_error_that_names_the_knob(
    wrap: Callable[..., steps.Gradient], knob: str
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
        jax.eval_shape(steps.ordered(4)(loss), *arguments)


def test_a_step_reports_loss_gradient_norm_and_the_metrics_of_the_loss() -> None:
    params, data, batch = problem()
    optimizer = optax.adam(1e-2)
    state = steps.init_train_state(params, optimizer)

    key = jax.random.key(KEY)
    new_state, metrics = steps.gradient_step(loss, optimizer)(state, data, batch, key)

    (value, extra), grads = jax.value_and_grad(loss, has_aux=True)(params, data, batch, key)
    flat = np.concatenate([np.ravel(g) for g in jax.tree.leaves(grads)])
    close(metrics, {**extra, "loss": value, "grad_norm": np.linalg.norm(flat)})
    updates, opt_state = optimizer.update(grads, optimizer.init(params), params)
    close(new_state, steps.TrainState(optax.apply_updates(params, updates), opt_state))


@pytest.mark.parametrize("wrap", [lambda base: base, lambda base: steps.sam(0.3, base=base)])
def test_inside_a_fixed_order_plain_gradients_are_ordered_once(
    wrap: Callable[[steps.Gradient], steps.Gradient],
) -> None:
    free = gradient(wrap(steps.plain), noisy_loss)
    wanted = gradient(wrap(steps.ordered(3)), noisy_loss)

    with steps.fixed_order(3):
        close(gradient(wrap(steps.plain), noisy_loss), wanted)
    with steps.fixed_order(4):  # an order that the step chooses itself comes first
        close(gradient(wrap(steps.ordered(3)), noisy_loss), wanted)
    close(gradient(wrap(steps.plain), noisy_loss), free)
    assert differ(wanted[1], free[1])


def test_a_fixed_order_refuses_a_step_that_takes_no_gradient_of_ours() -> None:
    with pytest.raises(UserError, match=r"config\.deterministic=True: .*gradient_step") as info:
        with steps.fixed_order(3):
            gradient(lambda loss: jax.value_and_grad(loss, has_aux=True))
    assert "\n" not in str(info.value)
    with pytest.raises(ZeroDivisionError), steps.fixed_order(3):  # the first error is told
        raise ZeroDivisionError
