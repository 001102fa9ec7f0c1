"""Operators with boundary conditions: the rows of the tables as one network with options."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.boon.refinement import Refinement, conditioning, eliminate
from sciml.boon.released import no_elimination, released_layer, scalar_elimination
from sciml.boundary import BoundaryCondition, FaceData, Given, impose_all, violation
from sciml.kernels import Layer, LinearKernel
from sciml.numbers import floating
from sciml.operators import (
    Activation,
    ApplyLayer,
    LayerParams,
    OperatorParams,
    OperatorSpec,
    coordinates,
    init_operator,
    internal_axis,
    make_layer,
    operator,
    padded_grid,
    plain_layer,
    to_external,
    to_internal,
)
from sciml.pdes.solution import Ends


class Method(NamedTuple):
    """What a network does with boundary data.

    Attributes:
        inputs: They are input channels.
        writes_last: The output's end values are replaced.
        writes_layers: So are those of every layer's output.
        target: What kernel layers are refined to ("kernel", "value"), "": they are not.
        as_released: Layers are those of the released code, end values written before the
            activation, whose kernels have its "scalar" elimination, "none", or that of the paper
            ("exact"); "": they are not.
        discards_last: The last layer is not used, as in the released base operator.
    """

    inputs: bool = False
    writes_last: bool = False
    writes_layers: bool = False
    target: str = ""
    as_released: str = ""
    discards_last: bool = False


METHODS = {
    "plain": Method(),  # the base operator
    "inputs": Method(inputs=True),  # the same information as BOON, no constraint
    "last": Method(writes_last=True),
    "write": Method(writes_last=True, writes_layers=True),
    "boon": Method(writes_last=True, writes_layers=True, target="kernel"),  # the paper
    "boon_value": Method(writes_last=True, writes_layers=True, target="value"),
    "boon_inputs": Method(inputs=True, writes_last=True, writes_layers=True, target="kernel"),
    # One dimension, for audits:
    "plain_released": Method(discards_last=True),
    "write_released": Method(writes_last=True, writes_layers=True, as_released="none"),
    "exact_released": Method(
        writes_last=True, writes_layers=True, as_released="exact", target="kernel"
    ),
    "boon_released": Method(writes_last=True, writes_layers=True, as_released="scalar"),
}


class ModelSpec(NamedTuple):
    """A network with boundary conditions, on grids (space axes, then time if it has an axis).

    Attributes:
        kind: A key of METHODS.
        operator: Sizes of the base operator.
        conditions: One for each space axis.
        refined_axes: Space axes along which kernels are refined; on others ends are written.
        damping: Of the refinement's solve.
    """

    kind: str
    operator: OperatorSpec
    conditions: tuple[BoundaryCondition, ...]
    refined_axes: tuple[int, ...]
    damping: float


def init_model(key: PRNGKeyArray, *, spec: ModelSpec) -> OperatorParams:
    """Draws the parameters of a network for fields of one component."""
    num_axes, faces = len(spec.operator.modes), 2 * len(spec.conditions)
    inputs = 1 + num_axes + (faces if METHODS[spec.kind].inputs else 0)
    return init_operator(key, spec=spec.operator, c_in=inputs, c_out=1)


def predict(
    params: OperatorParams,
    initial: Float[Array, " batch *space"],
    boundary: Sequence[Ends],
    *,
    spec: ModelSpec,
) -> Float[Array, " batch *grid"]:
    """Returns the solution at the target times, on the grid of the initial state.

    Args:
        params: Parameters.
        initial: States at time 0.
        boundary: Values or slopes of every space axis at the target times, [batch, *face, time].
            A grid without a time axis has one target time.
        spec: The network.
    """
    method, num_axes = METHODS[spec.kind], len(spec.operator.modes)
    initial = floating(initial)  # coordinates are in its type
    space, has_time = initial.shape[1:], num_axes > initial.ndim - 1
    faces = [_faces(ends, has_time=has_time) for ends in boundary]
    grid = (*space, faces[0].low.shape[0]) if has_time else space
    given = list(zip(_internal_conditions(spec), faces, strict=True))
    field = to_internal(_inputs(initial, grid))
    if method.inputs:
        channels = [
            _as_channel(end, condition.axis, field.shape[:-1])
            for condition, face in given
            for end in face
        ]
        field = jnp.concatenate([field, *channels], axis=-1)
    layer = plain_layer
    if method.writes_layers:
        padded = [(condition, _pad_time(face, spec, grid)) for condition, face in given]
        layer = constrained_layer(spec, padded)
    out = operator(params, field, spec=spec.operator, layer=layer)
    if method.writes_last:
        out = impose_all(out, given)
    return to_external(out)[..., 0]


def constrained_layer(spec: ModelSpec, given: Given) -> ApplyLayer:
    """Returns what is done with a kernel layer: refinement, activation, end values.

    Every channel satisfies the condition after the activation too, so the next layer's input does.

    Source: Saad et al. (2023), released code: the refinement in every layer of the operator.
    """
    method = METHODS[spec.kind]
    refinement = _refinement(spec)
    if method.as_released:
        (condition, faces), *_ = given

        def exact(kernel: LinearKernel, v: Array, condition: BoundaryCondition) -> Array:
            del condition
            return eliminate(Layer(kernel), v, given, refinement)

        every = {"scalar": scalar_elimination, "none": no_elimination, "exact": exact}
        correct = every[method.as_released]
        return lambda made, v, activation: released_layer(
            made, v, condition, faces, activation, correct=correct
        )

    def layer(made: Layer, v: Array, activation: Activation) -> Array:
        if method.target:
            v = activation(eliminate(made, v, given, refinement))
        else:
            v = plain_layer(made, v, activation)
        return impose_all(v, given)

    return layer


def boundary_misses(
    field: Float[Array, " batch *grid"], boundary: Sequence[Ends], *, spec: ModelSpec
) -> Float[Array, "batch points"]:
    """Returns by how much fields miss their conditions at every boundary point and time."""
    has_time = field.ndim - 1 > len(spec.conditions)
    inner = to_internal(field[..., None])
    rows = []
    for condition, ends in zip(_internal_conditions(spec), boundary, strict=True):
        missed = violation(inner, condition, _faces(ends, has_time=has_time))
        constrained = missed[1:] if condition.kind == "periodic" else missed
        at_ends = jnp.moveaxis(constrained[..., 0], -1, 0)
        rows.append(at_ends.reshape(field.shape[0], math.prod(at_ends.shape[1:])))
    return jnp.concatenate(rows, axis=-1)


def worst_conditioning(
    params: OperatorParams, grid: tuple[int, ...], *, spec: ModelSpec
) -> Float[Array, ""]:
    """Returns the largest condition number of all boundary blocks that are inverted.

    1 if none is.
    """
    if not METHODS[spec.kind].target:
        return jnp.ones(())
    inner = _internal_grid(padded_grid(spec.operator, grid))
    refinement = _refinement(spec)

    def worst(layer: LayerParams) -> Array:
        made, numbers = make_layer(layer, inner, spec.operator), [jnp.ones(())]
        for condition in _internal_conditions(spec):
            if condition.axis in refinement.axes and condition.kind != "periodic":
                points = inner[condition.axis]
                numbers.append(conditioning(made, condition, points, refinement))
        return jnp.max(jnp.stack(numbers))

    return jnp.max(jax.lax.map(worst, params.layers))


def _refinement(spec: ModelSpec) -> Refinement:
    num_axes = len(spec.operator.modes)
    axes = tuple(internal_axis(axis, num_axes) for axis in spec.refined_axes)
    target = METHODS[spec.kind].target
    return Refinement("value" if target == "value" else "kernel", spec.damping, axes)


def _internal_grid(grid: tuple[int, ...]) -> tuple[int, ...]:
    return (grid[-1], *grid[:-1])


def _internal_conditions(spec: ModelSpec) -> list[BoundaryCondition]:
    num_axes = len(spec.operator.modes)
    return [c._replace(axis=internal_axis(c.axis, num_axes)) for c in spec.conditions]


def _inputs(
    initial: Float[Array, " batch *space"], grid: tuple[int, ...]
) -> Float[Array, "batch *grid c"]:
    """Returns the initial state, copied along time, and the coordinates of every point."""
    if len(grid) > initial.ndim - 1:
        initial = jnp.broadcast_to(initial[..., None], (*initial.shape, grid[-1]))
    points = coordinates(grid, initial.dtype)
    points = jnp.broadcast_to(points, (initial.shape[0], *points.shape))
    return jnp.concatenate([initial[..., None], points], axis=-1)


def _faces(ends: Ends, *, has_time: bool) -> FaceData:
    """Returns boundary data [batch, *face, time] as [time, *face, batch, 1], or [batch, 1]."""
    if not has_time:
        return FaceData(*(x[..., -1][..., None] for x in ends))
    return FaceData(*(to_internal(x[..., None]) for x in ends))


def _as_channel(face: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """Returns data of one end as an input channel, the same along the axis."""
    return jnp.broadcast_to(jnp.expand_dims(face, axis), (*shape, 1))


def _pad_time(face: FaceData, spec: ModelSpec, grid: tuple[int, ...]) -> FaceData:
    """Continues boundary data over the padding of the time axis, in a line back to their start.

    Only that axis is padded where kernels are refined (`check_model`); the padded grid is taken as
    a period, so a straight way back makes the data continuous on it.
    """
    count = padded_grid(spec.operator, grid)[-1] - grid[-1]
    if count == 0:
        return face
    share = jnp.arange(1, count + 1) / (count + 1)

    def padded(x: Array) -> Array:
        way = share.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return jnp.concatenate([x, x[-1:] * (1 - way) + x[:1] * way])

    return FaceData(*(padded(x) for x in face))


def check_model(spec: ModelSpec) -> None:
    """Checks that kind, padding and refined axes go together.

    Raises:
        ValueError: Naming the field, the value and what is allowed.
    """
    num_space, num_axes = len(spec.conditions), len(spec.operator.modes)
    method = METHODS[spec.kind]
    is_released = method.discards_last or bool(method.as_released)
    if is_released and (num_axes > 1 or spec.operator.base != "fno"):
        raise ValueError(
            f"config.model.kind={spec.kind}: the released single-step code has an FNO on one axis "
            f"only; the data have {num_axes}, config.model.base={spec.operator.base}"
        )
    padded = [axis for axis in range(num_space) if spec.operator.padding[axis] > 0]
    if method.writes_layers and padded:
        raise ValueError(
            f"config.model.padding={spec.operator.padding}: {spec.kind} constrains both ends of "
            f"every space axis in all layers, so only time may be padded"
        )
    if not all(0 <= axis < num_space for axis in spec.refined_axes):
        raise ValueError(
            f"config.model.refined_axes={spec.refined_axes}: the grid has {num_space} space axes"
        )
