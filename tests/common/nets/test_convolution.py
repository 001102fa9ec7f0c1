"""A convolution that is that of lax to rounding, and in loops one that XLA:CPU does fast."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import lax
from jax.sharding import PartitionSpec

from common.nets.convolution import Conv, conv_general_dilated, convolution
from common.sharding import make_mesh

IMAGES = ("NHWC", "HWIO", "NHWC")
WAYS = conv_general_dilated, lax.conv_general_dilated  # ours and theirs
Convolution = Callable[[jax.Array, jax.Array], jax.Array]


class Case(NamedTuple):
    """A convolution of [2, 7, 6, 3] with a kernel to 4 channels, and how it moves."""

    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Any = "SAME"
    lhs_dilation: tuple[int, int] | None = None
    rhs_dilation: tuple[int, int] | None = None
    labels: tuple[str, str, str] = IMAGES

    def of(self, way: Callable[..., jax.Array]) -> Convolution:
        return partial(
            way,
            window_strides=self.strides,
            padding=self.padding,
            lhs_dilation=self.lhs_dilation,
            rhs_dilation=self.rhs_dilation,
            dimension_numbers=self.labels,
        )


CASES = {
    "3x3": Case(),
    "1x1, stride 2": Case(kernel=(1, 1), strides=(2, 2)),
    "dilated": Case(padding=((2, 1), (0, 3)), lhs_dilation=(2, 1), rhs_dilation=(1, 2)),
    "PyTorch's order": Case(labels=("NCHW", "OIHW", "NCHW"), strides=(2, 1), padding="VALID"),
}
LONGER = {
    "stride 2": Case(strides=(2, 2)),
    "valid, 5x2": Case(kernel=(5, 2), padding="VALID"),
    "pixels left over": Case(strides=(3, 2), padding="VALID", kernel=(2, 3)),
    "wide padding": Case(padding=((4, 0), (3, 5))),
}


def operands(case: Case, dtype: Any, *lead: int) -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(0)
    sizes = {"N": 2, "C": 3, "H": 7, "W": 6}
    taps = {"O": 4, "I": 3, "H": case.kernel[0], "W": case.kernel[1]}
    lhs = generator.normal(size=(*lead, *(sizes[a] for a in case.labels[0])))
    rhs = generator.normal(size=(*lead, *(taps[a] for a in case.labels[1])))
    return jnp.asarray(lhs.astype(dtype)), jnp.asarray(rhs.astype(dtype))


def derivatives(convolve: Convolution, pair: Any, along: Any) -> Any:
    """Returns (out, gradient) of a loss that is not quadratic, and their derivatives along `along`.

    Forward over reverse, as Hessian products are made.
    """

    def loss(pair: Any) -> tuple[jax.Array, jax.Array]:
        out = convolve(*pair)
        return jnp.sum(jnp.sin(out)), out

    return jax.jvp(jax.value_and_grad(loss, has_aux=True), (pair,), (along,))


def check_derivatives(case: Case) -> None:
    with jax.enable_x64(True):
        pair = operands(case, jnp.float64)
        along = jax.tree.map(np.cos, pair)

        both = lambda *at: [derivatives(case.of(way), *at) for way in WAYS]
        ours, theirs = jax.jit(both)(pair, along)

        # Sums of at most 7 * 6 * 4 * 2 products of numbers of size 1, in another order.
        chex.assert_trees_all_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_to_second_order_are_those_of_lax(name: str) -> None:
    check_derivatives(CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LONGER)
def test_more_convolutions_are_those_of_lax(name: str) -> None:
    check_derivatives(LONGER[name])


def test_reverse_over_reverse_is_forward_over_reverse() -> None:
    with jax.enable_x64(True):
        convolve = CASES["3x3"].of(conv_general_dilated)
        pair = operands(CASES["3x3"], jnp.float64)
        along = jax.tree.map(np.cos, pair)

        def gradient(pair: Any) -> Any:
            return jax.grad(lambda p: jnp.sum(jnp.sin(convolve(*p))))(pair)

        def slope(pair: Any) -> Any:
            return optax.tree.vdot(gradient(pair), along)

        product = lambda p: jax.jvp(gradient, (p,), (along,))[1]
        found, wanted = jax.jit(lambda p: (jax.grad(slope)(p), product(p)))(pair)
        chex.assert_trees_all_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_type_of_numbers_is_kept_in_values_and_gradients(dtype: Any) -> None:
    case = CASES["3x3"]
    pair = operands(case, dtype)

    def both(convolve: Convolution, pair: Any) -> Any:
        out, pull = jax.vjp(convolve, *pair)
        return out, pull(jnp.ones_like(out))

    ours, theirs = jax.jit(lambda pair: [both(case.of(way), pair) for way in WAYS])(pair)

    chex.assert_trees_all_equal_dtypes(ours, theirs)
    # Sums of up to 84 products, so a few dozen units in the last place of the largest of them.
    chex.assert_trees_all_close(ours, theirs, rtol=0, atol=100 * float(jnp.finfo(dtype).eps))


def orders_in_loops(convolve: Callable[..., jax.Array]) -> set[str]:
    """Returns the orders of axes of all convolutions in a compiled scan over Hessian products."""
    strided = Case(strides=(2, 2)).of(convolve)
    x, w = operands(CASES["3x3"], jnp.float32)

    def loss(pair: Any) -> jax.Array:
        return jnp.sum(jnp.sin(strided(*pair)))

    def body(v: Any, _: None) -> tuple[Any, Any]:
        g, v = jax.jvp(jax.grad(loss), ((x, w),), (v,))
        return v, g

    compiled = jax.jit(lambda v: lax.scan(body, v, length=3)).lower((x, w)).compile()
    return set(re.findall(r"dim_labels=(\S+?)[,\s]", str(compiled.as_text())))


def test_in_a_loop_every_convolution_has_the_order_that_is_fast_on_cpus() -> None:
    fast = "b01f_01io->b01f"

    assert orders_in_loops(conv_general_dilated) == {fast}
    assert orders_in_loops(lax.conv_general_dilated) - {fast}


@pytest.mark.parametrize("axes", [(0, 0), (2, None), (None, 3)])
def test_vmap_over_either_operand_or_both_is_that_of_lax(axes: tuple[Any, Any]) -> None:
    case = CASES["PyTorch's order"]
    pair = [
        jnp.asarray(many[0] if axis is None else np.moveaxis(many, 0, axis))
        for axis, many in zip(axes, map(np.asarray, operands(case, jnp.float32, 3)), strict=True)
    ]

    def squared(convolve: Convolution, lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return jnp.sum(convolve(lhs, rhs) ** 2)

    def both(convolve: Convolution, *pair: jax.Array) -> Any:
        return jax.vmap(convolve, axes)(*pair), jax.vmap(
            jax.grad(partial(squared, convolve), (0, 1)), axes
        )(*pair)

    ours, theirs = jax.jit(lambda *pair: [both(case.of(way), *pair) for way in WAYS])(*pair)

    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_under_shard_map_the_gradient_of_a_shared_kernel_is_summed_over_devices() -> None:
    convolve = CASES["3x3"].of(conv_general_dilated)
    x, w = operands(CASES["3x3"], jnp.float32)
    split, whole = PartitionSpec("data"), PartitionSpec()

    def gradient(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.grad(lambda w: jnp.sum(convolve(x, w) ** 2))(w)

    # `whole` for a result that may differ between devices is refused: the sum has to be there.
    mapped = jax.shard_map(
        gradient, mesh=make_mesh({"data": 1}), in_specs=(split, whole), out_specs=whole
    )

    assert "psum" in str(jax.make_jaxpr(mapped)(x, w))
    found, wanted = jax.jit(lambda x, w: (mapped(x, w), gradient(x, w)))(x, w)
    chex.assert_trees_all_close(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [
        ((2, 6, 5, 3), 3, 2),
        pytest.param((2, 6, 5, 3), 3, 1, marks=pytest.mark.slow),  # as "3x3" above
        ((1, 8, 7, 2), 1, 2),
    ],
)
def test_value_and_gradients_are_those_of_jax_also_in_a_loop(
    shape: tuple[int, ...], size: int, stride: int
) -> None:
    draw = np.random.default_rng(0).normal
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(draw(size=s)) for s in (shape, (size, size, shape[-1], 4)))

        def theirs(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return lax.conv_general_dilated(
                x, kernel, (stride, stride), "SAME", dimension_numbers=IMAGES
            )

        def answers(convolve: Any, x: jax.Array, kernel: jax.Array) -> Any:
            y, pull_back = jax.vjp(convolve, x, kernel)
            return y, pull_back(jnp.sin(jnp.arange(y.size, dtype=float)).reshape(y.shape))

        def looped(x: jax.Array, kernel: jax.Array) -> Any:
            one = partial(answers, partial(convolution, stride=stride))
            return lax.map(lambda _: one(x, kernel), jnp.arange(2))

        wanted = jax.jit(partial(answers, theirs))(x, kernel)
        found = jax.jit(looped)(x, kernel)

        for i in range(2):  # sums of up to 100 terms of order 1
            each = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], found)
            chex.assert_trees_all_close(each, wanted, rtol=0, atol=1e-12)


def test_a_program_names_it_as_that_of_lax() -> None:
    """Readers of programs, such as `nfn.tracing`, need not know this one."""
    case = CASES["PyTorch's order"]
    pair = operands(case, jnp.float32)
    ours, theirs = (
        jax.make_jaxpr(case.of(convolve))(*pair).eqns[-1]
        for convolve in (conv_general_dilated, lax.conv_general_dilated)
    )

    assert ours.primitive.name == theirs.primitive.name
    assert ours.primitive is not theirs.primitive
    assert ours.params == {name: theirs.params[name] for name in ours.params}
    assert {*theirs.params} - {*ours.params} <= {"preferred_element_type", "out_sharding"}


@pytest.mark.parametrize("groups", [1, 3])
def test_the_layer_is_that_of_linen_with_the_same_parameters(groups: int) -> None:
    options = dict(features=6, kernel_size=(3, 3), strides=2, feature_group_count=groups)
    ours, theirs = Conv(**options), nn.Conv(**options)
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(2, 9, 8, 3)).astype(np.float32))
    shapes = [jax.eval_shape(layer.init, jax.random.key(0), x) for layer in (ours, theirs)]
    params = jax.tree.map(lambda s: jnp.asarray(generator.normal(size=s.shape), s.dtype), shapes[0])

    def gradient(layer: nn.Module, params: Any, x: jax.Array) -> Any:
        apply: Any = layer.apply
        return jax.grad(lambda p: jnp.sum(apply(p, x) ** 2))(params)

    lowered = [jax.jit(partial(gradient, layer)).lower(params, x) for layer in (ours, theirs)]
    found, expected = (program.compile()(params, x) for program in lowered)

    assert shapes[0] == shapes[1]
    # The same sums of 240 products, of the size of the largest of them, in another order.
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-3)
    # The layer without its derivatives would be as good so far.
    assert ("optimization_barrier" in lowered[0].as_text()) == (groups == 1)
