"""Exchange with the authors' PyTorch package `nfn` 0.1.2: layers, features, pools, counts.

Arrays are NumPy arrays, as from `{k: v.numpy() for k, v in module.state_dict().items()}`; PyTorch
is not needed; for a layer of a model see `nfn.compat_state.submodule`. The package keeps channels
first, one array (batch, c, out, in, *filter) per kernel. `space` is always the full space of a
chain (`mlp_space`, `cnn_space`), also for HNP.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nfn.compat_state import State, as_exact, entry
from nfn.couplings import couplings
from nfn.features import Features, fold, num_channels, unfold
from nfn.layers import LayerNormParams, LinearParams
from nfn.weights import INPUT, OUTPUT, TensorSpec, WeightSpace, hidden_only

Kind = Literal["np", "hnp", "pt"]


class Item(NamedTuple):
    """A tensor of the full space averaged over (or constant along) all groups but the kept."""

    spec: TensorSpec
    kept: tuple[str, ...]


class Submap(NamedTuple):
    """One submodule of a package layer: a matrix and bias from all sources to the target."""

    module: str
    target: Item
    sources: tuple[Item, ...]


class Chain(NamedTuple):
    """Kernels and biases of the layers, and the groups before and after every layer."""

    kernels: tuple[TensorSpec, ...]
    biases: tuple[TensorSpec, ...]
    groups: tuple[str, ...]

    def kernel(self, layer: int, *kept: str) -> Item:
        """Returns the kernel with these groups kept."""
        return Item(self.kernels[layer], kept)

    def bias(self, layer: int, *kept: str) -> Item:
        """Returns the bias with these groups kept."""
        return Item(self.biases[layer], kept)


def linear_from_package(state: State, space: WeightSpace, kind: Kind) -> LinearParams:
    """Returns the parameters of our layer that computes what a package layer computes.

    Parameters that the package stores twice are added up; the map from the last hidden bias to
    the last kernel, which its HNPLinear lacks, is 0.

    Args:
        state: State of NPLinear ("np"), HNPLinear ("hnp") or Pointwise ("pt").
        space: The full space. The result is for `equivariant_linear` on it, for "hnp" on
            `hidden_only(space)`, for "pt" for `pointwise`.
        kind: Which of the three.

    Raises:
        ValueError: If `space` is no chain of layers with biases, or `state` does not fit it.
    """
    inner = hidden_only(space) if kind == "hnp" else space
    maps = submaps(space, kind)
    c_in, c_out = _channels(state, maps[0], kind)
    layout = _layout(inner, kind)
    sizes = {spec.path: spec.multiplicity for spec in inner.tensors}
    blocks = {
        (name, b, a): np.zeros((sizes[b] * c_in, sizes[a] * c_out))
        for name, reads, writes in layout
        for b, a in itertools.product(reads, writes)
    }
    biases = {path: np.zeros(size * c_out) for path, size in sizes.items()}
    for submap in maps:
        target, kept = submap.target
        widths = [c_in * _width(item, kind) for item in submap.sources]
        weight, bias = _weight_and_bias(
            state, submap.module, (c_out * _width(submap.target, kind), sum(widths))
        )
        outputs = _package_channels(submap.target, inner, c_out)
        biases[target.path] += bias @ outputs
        name = target.path if kind == "pt" else _coupling_name(inner, kept)
        parts = np.split(weight, np.cumsum(widths)[:-1], axis=1)
        for item, part in zip(submap.sources, parts, strict=True):
            inputs = _package_channels(item, inner, c_in)
            blocks[name, item.spec.path, target.path] += (outputs.T @ part @ inputs).T
    matrices = {
        name: np.block([[blocks[name, b, a] for a in writes] for b in reads])
        for name, reads, writes in layout
    }
    dtype = entry(state, f"{maps[0].module}.weight").dtype
    return LinearParams(_as_jax(matrices, dtype), _as_jax(biases, dtype))


def package_parameters(
    space: WeightSpace, kind: Kind, c_in: int = 1, c_out: int = 1
) -> tuple[int, int]:
    """Returns how many matrix and bias entries NPLinear, HNPLinear or Pointwise stores."""
    shapes = package_shapes(space, kind, c_in, c_out).values()
    return sum(rows * columns for rows, columns in shapes), sum(rows for rows, _ in shapes)


def package_shapes(
    space: WeightSpace, kind: Kind, c_in: int = 1, c_out: int = 1
) -> dict[str, tuple[int, int]]:
    """Returns the shape (out, in) of every matrix of a package layer, by submodule."""
    return {
        m.module: (c_out * _width(m.target, kind), c_in * sum(_width(s, kind) for s in m.sources))
        for m in submaps(space, kind)
    }


def layer_norm_from_package(state: State, space: WeightSpace) -> LayerNormParams:
    """Returns the parameters of `layer_norm` on the full space that computes SimpleLayerNorm."""
    chain = package_chain(space)
    gamma, beta, dtype = {}, {}, entry(state, "w_norms.0.gamma").dtype
    for i, (kernel, bias) in enumerate(zip(chain.kernels, chain.biases, strict=True)):
        for name, spec in ((f"w_norms.{i}", kernel), (f"v_norms.{i}", bias)):
            scale, shift = entry(state, f"{name}.gamma"), entry(state, f"{name}.beta")
            c = scale.size // spec.multiplicity
            channels = _package_channels(Item(spec, chain.groups), space, c)
            if scale.shape != channels.shape[:1] or shift.shape != scale.shape:
                raise ValueError(
                    f"{name}.gamma, {name}.beta: shapes {scale.shape} and {shift.shape}, expected "
                    f"a multiple of {spec.multiplicity} channels as {spec.path} has"
                )
            gamma[spec.path], beta[spec.path] = scale @ channels, shift @ channels
    return LayerNormParams(_as_jax(gamma, dtype), _as_jax(beta, dtype))


def io_embedding_from_package(state: State, space: WeightSpace) -> Features:
    """Returns the parameters of `io_embedding` held by NPLinear(io_embed=True)."""
    chain = package_chain(space)
    first, last, bias = chain.kernels[0], chain.kernels[-1], chain.biases[-1]
    embeddings = {}
    for spec, name in ((first, "in_embed"), (last, "out_embed"), (bias, "out_bias_embed")):
        array = entry(state, name)  # [1, c * filter, out, in] or [1, c, out], 1 for the hidden axis
        filters = [n for n, group in zip(spec.shape, spec.groups, strict=True) if group is None]
        array = array.reshape(1, -1, *filters, *array.shape[2:])
        array = np.moveaxis(array, range(2, 2 + len(filters)), range(-len(filters), 0))
        full = np.broadcast_to(_to_flax(array), (1, *spec.shape, array.shape[1]))
        folded = fold(spec, jnp.asarray(full))[0]
        place = tuple(
            slice(None) if group in (INPUT, OUTPUT) else slice(1) for group in spec.permuted_groups
        )
        embeddings[spec.path] = folded[place]
    return embeddings


def features_from_package(
    space: WeightSpace, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]
) -> Features:
    """Returns features of the WeightSpaceFeatures(weights, biases) of the package."""
    chain = package_chain(space)
    pairs = [*zip(chain.kernels, weights, strict=True), *zip(chain.biases, biases, strict=True)]
    arrays = {
        spec.path: fold(spec, jnp.asarray(_to_flax(as_exact(spec.path, array))))
        for spec, array in pairs
    }
    return {spec.path: arrays[spec.path] for spec in space.tensors}


def features_to_package(space: WeightSpace, features: Features) -> tuple[list[Array], list[Array]]:
    """Inverts `features_from_package`; the features have one batch axis."""
    num_channels(space, features)
    chain = package_chain(space)
    unfolded = {spec.path: unfold(spec, features[spec.path]) for spec in space.tensors}
    weights, biases = (
        [_from_flax(unfolded[spec.path]) for spec in part] for part in (chain.kernels, chain.biases)
    )
    return weights, biases


def pool_to_package(
    space: WeightSpace, pooled: Float[Array, "batch _"]
) -> Float[Array, "batch c k"]:
    """Returns `invariant_pool` in the order of NPPool, or HNPPool if made on `hidden_only`.

    Args:
        space: The space the pool was made on, full or hidden only.
        pooled: Output of `invariant_pool`.

    Raises:
        ValueError: If `pooled` was made on another space.
    """
    total = sum(spec.multiplicity for spec in space.tensors)
    c, rest = divmod(pooled.shape[-1], total)
    if rest or not c:
        raise ValueError(
            f"pooled features of shape {pooled.shape}, expected a multiple of {total} channels, as "
            "`invariant_pool` gives on this space"
        )
    ends = np.cumsum([spec.multiplicity * c for spec in space.tensors])
    columns = []
    for spec, part in zip(space.tensors, jnp.split(pooled, ends[:-1], axis=-1), strict=True):
        shape = [spec.shape[axis] for axis in spec.fixed]
        num_filters = max(len(spec.shape) - 2, 0)
        array = part.reshape(-1, *shape, c)
        # The package has inputs or outputs before filter positions.
        order = (
            0,
            array.ndim - 1,
            *range(1 + num_filters, array.ndim - 1),
            *range(1, 1 + num_filters),
        )
        columns.append(array.transpose(order).reshape(len(part), c, -1))
    return jnp.concatenate(columns, axis=-1)


def submaps(space: WeightSpace, kind: Kind) -> tuple[Submap, ...]:
    """Lists the submodules of NPLinear, HNPLinear or Pointwise, sources in the package's order."""
    chain = package_chain(space)
    if kind == "pt":
        return tuple(
            Submap(f"{name}_maps.{i}", item, (item,))
            for i, out in enumerate(chain.groups[1:])
            for name, item in (
                ("weight", chain.kernel(i, chain.groups[i], out)),
                ("bias", chain.bias(i, out)),
            )
        )
    if kind not in ("np", "hnp"):
        raise ValueError(f"unknown kind {kind!r}; expected 'np', 'hnp' or 'pt'")
    last = len(chain.kernels) - 1
    if kind == "hnp" and last < 1:
        raise ValueError("the package has no HNPLinear for a network of one layer")
    totals = [chain.kernel(i) for i in range(last + 1)] + [chain.bias(i) for i in range(last + 1)]
    if kind == "hnp":
        totals += [chain.kernel(0, INPUT), chain.kernel(last, OUTPUT), chain.bias(last, OUTPUT)]
    maps = []
    for i in range(last + 1):
        if kind == "np" or 0 < i < last:
            maps += _middle_maps(chain, i, tuple(totals), unrolled=kind == "hnp")
        else:
            maps += (_last_maps if i else _first_maps)(chain, tuple(totals))
    return tuple(maps)


def _middle_maps(chain: Chain, i: int, totals: tuple[Item, ...], unrolled: bool) -> list[Submap]:
    before, after, last = chain.groups[i], chain.groups[i + 1], len(chain.kernels) - 1
    rows, columns = [chain.kernel(i, before)], [chain.kernel(i, after), chain.bias(i, after)]
    if i > 0:
        rows += [chain.kernel(i - 1, before), chain.bias(i - 1, before)]
    if i < last:
        columns.append(chain.kernel(i + 1, after))
    if unrolled and i == 1:
        rows.append(chain.kernel(0, INPUT, before))
    if unrolled and i == last - 1:
        columns.append(chain.kernel(last, after, OUTPUT))
    both = chain.kernel(i, before, after)
    return [
        Submap(f"layer_{i}", both, (both,)),
        Submap(f"layer_{i}_rc", chain.kernel(i), totals),
        Submap(f"layer_{i}_r", chain.kernel(i, before), tuple(rows)),
        Submap(f"layer_{i}_c", chain.kernel(i, after), tuple(columns)),
        Submap(f"bias_{i}", chain.bias(i, after), tuple(columns)),
        Submap(f"bias_{i}_rc", chain.bias(i), totals),
    ]


def _first_maps(chain: Chain, totals: tuple[Item, ...]) -> list[Submap]:
    hidden, last = chain.groups[1], len(chain.kernels) - 1
    sources = [chain.kernel(0, INPUT, hidden), chain.kernel(1, hidden), chain.bias(0, hidden)]
    if last == 1:
        sources.append(chain.kernel(1, hidden, OUTPUT))
    return [
        Submap("w0_rpt", chain.kernel(0, INPUT, hidden), tuple(sources)),
        Submap("w0_rbdcst", chain.kernel(0, INPUT), totals),
        Submap("bias_0", chain.bias(0, hidden), tuple(sources)),
        Submap("bias_0_rc", chain.bias(0), totals),
    ]


def _last_maps(chain: Chain, totals: tuple[Item, ...]) -> list[Submap]:
    hidden, last = chain.groups[-2], len(chain.kernels) - 1
    sources = [chain.kernel(last, hidden, OUTPUT), chain.kernel(last - 1, hidden)]
    if last == 1:
        sources.append(chain.kernel(0, INPUT, hidden))
    return [
        Submap("wfin_cpt", chain.kernel(last, hidden, OUTPUT), tuple(sources)),
        Submap("wfin_cbdcst", chain.kernel(last, OUTPUT), totals),
        Submap("bias_fin_rc", chain.bias(last, OUTPUT), totals),
    ]


def package_chain(space: WeightSpace) -> Chain:
    """Returns the layers of a space that the package knows.

    Raises:
        ValueError: If `space` is no chain of layers with biases.
    """
    kernels, biases = space.tensors[::2], space.tensors[1::2]
    groups = [INPUT]
    for kernel, bias in itertools.zip_longest(kernels, biases):
        after = None if bias is None else bias.groups[0]
        if after is None or len(bias.groups) != 1 or kernel.groups[-2:] != (groups[-1], after):
            raise ValueError(
                f"{kernel.path}: the package knows only chains of layers with biases, such as "
                "`mlp_space` and `cnn_space` with all groups (not `hidden_only`)"
            )
        groups.append(after)
    return Chain(kernels, biases, tuple(groups))


def _width(item: Item, kind: Kind) -> int:
    """Returns the channels of an item in the package, for one channel per weight."""
    unrolled = (INPUT, OUTPUT) if kind == "hnp" else ()
    return math.prod(
        size
        for size, group in zip(item.spec.shape, item.spec.groups, strict=True)
        if group is None or (group in unrolled and group in item.kept)
    )


def _channels(state: State, submap: Submap, kind: Kind) -> tuple[int, int]:
    """Returns c_in and c_out of a layer, from its first matrix."""
    width = sum(_width(item, kind) for item in submap.sources)
    weight = entry(state, f"{submap.module}.weight")
    return weight.shape[1] // width, weight.shape[0] // _width(submap.target, kind)


def _weight_and_bias(
    state: State, module: str, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = entry(state, f"{module}.weight"), entry(state, f"{module}.bias")
    if weight.shape[:2] != shape or weight.size != math.prod(shape):
        raise ValueError(f"{module}.weight: shape {weight.shape}, expected {shape} and ones")
    if bias.shape != shape[:1]:
        raise ValueError(f"{module}.bias: shape {bias.shape}, expected {shape[:1]}")
    return weight.reshape(shape).astype(np.float64), bias.astype(np.float64)


def _layout(inner: WeightSpace, kind: Kind) -> list[tuple[str, list[str], list[str]]]:
    """Returns the name of every matrix, the tensors of its rows and those of its columns."""
    if kind == "pt":
        return [(spec.path, [spec.path], [spec.path]) for spec in inner.tensors]
    return [
        (c.name, [view.spec.path for view in c.reads], [view.spec.path for view in c.writes])
        for c in couplings(inner)
    ]


def _coupling_name(inner: WeightSpace, kept: tuple[str, ...]) -> str:
    return ",".join(group for group in inner.group_sizes if group in kept) or "global"


def _package_channels(item: Item, inner: WeightSpace, c: int) -> np.ndarray:
    """Returns the matrix from our folded channels to the package's channels of an item.

    The package's order is (c, *filter, input or output); what is not kept is averaged.
    """
    spec = next(spec for spec in inner.tensors if spec.path == item.spec.path)
    labels = [item.spec.groups[axis] for axis in spec.fixed]
    size = spec.multiplicity * c
    array = np.eye(size).reshape(*(spec.shape[axis] for axis in spec.fixed), c, size)
    averaged = tuple(i for i, g in enumerate(labels) if g is not None and g not in item.kept)
    return np.moveaxis(array.mean(axis=averaged), -2, 0).reshape(-1, size)


def _to_flax(array: np.ndarray) -> np.ndarray:
    """Returns (batch, *filter, in, out, c) of (batch, c, out, in, *filter), or of a bias."""
    filters = range(4, array.ndim)
    return array.transpose(0, *filters, *((3, 2) if array.ndim > 3 else (2,)), 1)


def _from_flax(array: Array) -> Array:
    """Inverts `_to_flax`."""
    last = array.ndim - 1
    axes = (last - 1, last - 2) if array.ndim > 3 else (last - 1,)
    return array.transpose(0, last, *axes, *range(1, array.ndim - 3))


def _as_jax(parts: Mapping[str, np.ndarray], dtype: np.dtype) -> dict[str, Array]:
    return {name: jnp.asarray(part, dtype) for name, part in parts.items()}
