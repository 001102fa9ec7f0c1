"""Weight spaces: which axis of which parameter tensor a neuron permutation acts on.

A `WeightSpace` labels every axis of every parameter tensor with the permutation group acting on
it, or with None if the axis is fixed (filter positions; inputs and outputs if they have an
order). Everything else of this topic is derived from these labels. An axis of size 1 counts as
fixed, because only the identity acts on it.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

INPUT, OUTPUT = "input", "output"

Params = Any  # a tree of arrays: nested dicts, lists, an NNX state


class TensorSpec(NamedTuple):
    """One parameter tensor in the layout of Flax: kernels (..., in, out), biases (out,)."""

    path: str
    shape: tuple[int, ...]
    groups: tuple[str | None, ...]

    @property
    def permuted(self) -> tuple[int, ...]:
        """Axes on which a permutation other than the identity acts."""
        return tuple(
            axis
            for axis, (size, group) in enumerate(zip(self.shape, self.groups, strict=True))
            if group is not None and size > 1
        )

    @property
    def fixed(self) -> tuple[int, ...]:
        """Axes that are folded into the channels."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.permuted)

    @property
    def permuted_groups(self) -> tuple[str, ...]:
        """Groups of the permuted axes, in the order of the axes."""
        return tuple(str(self.groups[axis]) for axis in self.permuted)

    @property
    def permuted_shape(self) -> tuple[int, ...]:
        """Sizes of the permuted axes."""
        return tuple(self.shape[axis] for axis in self.permuted)

    @property
    def multiplicity(self) -> int:
        """Product m of the sizes of the fixed axes."""
        return math.prod(self.shape[axis] for axis in self.fixed)


class WeightSpace(NamedTuple):
    """All parameter tensors of a network; hashable, so it can be a static argument."""

    tensors: tuple[TensorSpec, ...]

    @property
    def group_sizes(self) -> dict[str, int]:
        """Number of neurons of every group that can move, in order of first appearance."""
        return {
            group: size
            for spec in self.tensors
            for group, size in zip(spec.permuted_groups, spec.permuted_shape, strict=True)
        }

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of all groups, also of those acting on a single neuron."""
        labels = [group for spec in self.tensors for group in spec.groups if group is not None]
        return tuple(dict.fromkeys(labels))

    @property
    def size(self) -> int:
        """Number of weights of one network."""
        return sum(math.prod(spec.shape) for spec in self.tensors)


def weight_space(tensors: Iterable[TensorSpec]) -> WeightSpace:
    """Returns the weight space of labelled tensors.

    Raises:
        ValueError: If a path repeats, a tensor has not one label per axis, or a group is given
            axes of different sizes.
    """
    space = WeightSpace(tuple(tensors))
    seen: dict[str, tuple[int, str]] = {}
    paths = set()
    for spec in space.tensors:
        if spec.path in paths:
            raise ValueError(f"the weight space has two tensors called {spec.path!r}")
        paths.add(spec.path)
        if len(spec.shape) != len(spec.groups):
            raise ValueError(
                f"{spec.path}: shape {spec.shape} has {len(spec.shape)} axes, but there are "
                f"{len(spec.groups)} group labels {spec.groups}"
            )
        for size, group in zip(spec.shape, spec.groups, strict=True):
            if group is None:
                continue
            first_size, first_path = seen.setdefault(group, (size, spec.path))
            if size != first_size:
                raise ValueError(
                    f"{spec.path}: group {group!r} acts on an axis of size {size}, but on one of "
                    f"size {first_size} in {first_path}"
                )
    return space


def mlp_space(widths: Sequence[int]) -> WeightSpace:
    """Returns the weight space of an MLP n_0-n_1-...-n_L with biases, all neurons permutable.

    Source: Zhou et al. (2023a), Sec. 2.1 (group NP; `hidden_only` turns it into HNP).
    """
    return cnn_space(channels=widths[:1], filters=(), dense=widths[1:])


def cnn_space(
    *, channels: Sequence[int], filters: Sequence[tuple[int, ...]], dense: Sequence[int] = ()
) -> WeightSpace:
    """Returns the weight space of convolutions, global average pooling, then dense layers.

    Source: Zhou et al. (2023a), Sec. 2.1 and App. B (convolutions). Layers are named as Flax
    names them in a compact module: Conv_0, Conv_1, ..., Dense_0, ...

    Args:
        channels: Channels before the first and after every convolution.
        filters: Spatial filter size of every convolution, for example (3, 3).
        dense: Widths of the dense layers after the pooling.

    Raises:
        ValueError: If there is not one filter size per convolution, or no layer at all.
    """
    if len(channels) != len(filters) + 1:
        raise ValueError(
            f"{len(channels)} channel counts need {len(channels) - 1} filter sizes, got "
            f"{len(filters)}"
        )
    conv = [(f"Conv_{i}", (*size, channels[i], channels[i + 1])) for i, size in enumerate(filters)]
    widths = (channels[-1], *dense)
    dense_layers = [(f"Dense_{i}", (widths[i], widths[i + 1])) for i in range(len(dense))]
    return _chain([(name, shape, True) for name, shape in conv + dense_layers])


def rnn_space(widths: Sequence[int]) -> WeightSpace:
    """Returns the weight space of stacked Elman RNNs of `widths` (inputs, states ..., outputs).

    Layer i is h <- tanh(W x + b + W_hh h), x the states of the layer below; a dense layer reads
    the last states. W_hh carries the group of its layer on both axes. Layers are named as Flax
    names `nn.RNN(nn.SimpleCell(n))`: SimpleCell_0/i, SimpleCell_0/h, ..., Dense_0.

    Raises:
        ValueError: If there are fewer than three widths.
    """
    if len(widths) < 3:
        raise ValueError(f"widths {tuple(widths)}: an RNN needs inputs, states and outputs")
    groups = _interfaces(len(widths) - 1)
    tensors = []
    for i, n in enumerate(widths[1:-1]):
        group = groups[i + 1]
        tensors += _dense(f"SimpleCell_{i}/i", (widths[i], n), (groups[i], group))
        tensors.append(TensorSpec(f"SimpleCell_{i}/h/kernel", (n, n), (group, group)))
    return weight_space([*tensors, *_dense("Dense_0", tuple(widths[-2:]), tuple(groups[-2:]))])


def residual_mlp_space(
    *, inputs: int, width: int, blocks: int, outputs: int, inner: int | None = None
) -> WeightSpace:
    """Returns the weight space of a residual MLP: embedding, pre-activation blocks, readout.

    All blocks add to one stream of `width` neurons, so all of them share the group "stream".
    With an inner width a block is x <- x + W_2 f(W_1 f(x) + b_1) + b_2 and its inner neurons are
    a group of their own; without, it is x <- x + W f(x) + b and W carries "stream" on both axes.
    Dense layers are numbered through, as Flax numbers them in a compact module.

    Raises:
        ValueError: If there is no block.
    """
    if blocks < 1:
        raise ValueError(f"{blocks} residual blocks, expected at least 1")
    links = [((inputs, width), (INPUT, "stream"))]
    for i in range(1, blocks + 1):
        if inner is None:
            links.append(((width, width), ("stream", "stream")))
        else:
            links.append(((width, inner), ("stream", f"inner_{i}")))
            links.append(((inner, width), (f"inner_{i}", "stream")))
    links.append(((width, outputs), ("stream", OUTPUT)))
    return weight_space(
        spec
        for i, (shape, groups) in enumerate(links)
        for spec in _dense(f"Dense_{i}", shape, groups)
    )


def _dense(name: str, shape: tuple[int, ...], groups: tuple[str, ...]) -> list[TensorSpec]:
    """Labels the kernel and bias of one layer; leading axes of the kernel are fixed."""
    labels = (*[None] * (len(shape) - 2), *groups)
    bias = TensorSpec(f"{name}/bias", shape[-1:], groups[-1:])
    return [TensorSpec(f"{name}/kernel", shape, labels), bias]


def _interfaces(num_layers: int) -> list[str]:
    return [INPUT, *(f"hidden_{i}" for i in range(1, num_layers)), OUTPUT]


def _chain(layers: Sequence[tuple[str, tuple[int, ...], bool]]) -> WeightSpace:
    """Labels consecutive layers (name, kernel shape, has bias) with one group per interface."""
    if not layers:
        raise ValueError("a weight space needs at least one layer")
    groups = _interfaces(len(layers))
    tensors = []
    for (name, shape, has_bias), before, after in zip(layers, groups, groups[1:], strict=False):
        kernel_and_bias = _dense(name, shape, (before, after))
        tensors += kernel_and_bias if has_bias else kernel_and_bias[:1]
    return weight_space(tensors)


def fix_groups(space: WeightSpace, groups: Iterable[str]) -> WeightSpace:
    """Returns `space` with the named groups trivial: their axes are fixed."""
    groups = frozenset(groups)
    unknown = groups.difference(space.groups)
    if unknown:
        raise ValueError(f"unknown groups {sorted(unknown)}; the space has {space.groups}")
    return WeightSpace(
        tuple(
            spec._replace(groups=tuple(None if g in groups else g for g in spec.groups))
            for spec in space.tensors
        )
    )


def hidden_only(space: WeightSpace) -> WeightSpace:
    """Returns `space` with fixed inputs and outputs (HNP instead of NP)."""
    return fix_groups(space, {INPUT, OUTPUT}.intersection(space.groups))


def space_from_params(params: Params, *, order: Sequence[str] | None = None) -> WeightSpace:
    """Infers the weight space of one MLP or CNN from its Flax parameters (or their shapes).

    The network must be a chain: every layer reads the one before and nothing else. A layer may
    lack its bias. Between convolutions and dense layers there must be a global pooling.
    `nfn.tracing.space_from_apply` reads any network from its forward pass. For architectures by
    name see `mlp_space`, `cnn_space`, `rnn_space`, `residual_mlp_space` and `weight_space`.

    Args:
        params: Nested dicts, lists or an NNX state with leaves called kernel and bias.
        order: Layers from input to output, each by the path of its dict: this says that the
            network is a chain. If None, it must follow from the shapes, which it does if no two
            places between layers have as many neurons: names do not tell, as Flax numbers layers
            as they are made, and a shortcut does not show in shapes.

    Raises:
        ValueError: If a tensor does not fit the chain, or the order cannot be told; the message
            names the tensor.
    """
    shapes = {path: tuple(np.shape(leaf)) for path, leaf in leaves_of(params).items()}
    kernels = {}
    for path, shape in shapes.items():
        name, _, leaf = path.rpartition("/")
        if leaf not in ("kernel", "bias") or (leaf == "kernel" and len(shape) < 2):
            raise ValueError(
                f"{path}: shape {shape} is neither a dense kernel (in, out), a convolution kernel "
                f"(..., in, out) nor a bias; {_HOW}"
            )
        kernel = kernels[name] = shapes.get(f"{name}/kernel", ())
        if not kernel:
            raise ValueError(f"{path}: layer {name!r} has no kernel")
        if leaf == "bias" and shape != kernel[-1:]:
            raise ValueError(f"{path}: shape {shape}, expected {kernel[-1:]} as {name}/kernel")
    if order is None:
        order = _order_of_shapes(kernels)
    elif sorted(order) != sorted(kernels):
        raise ValueError(f"order={list(order)} must name each of the layers {sorted(kernels)} once")
    _check_links(order, kernels)
    return _chain([(name, kernels[name], f"{name}/bias" in shapes) for name in order])


_HOW = "`nfn.tracing.space_from_apply(apply, params, inputs)` reads it from the forward pass"


def leaves_of(params: Params) -> dict[str, Any]:
    """Returns the leaves of nested dicts, lists or an NNX state by path, such as "layers/0/kernel".

    Raises:
        ValueError: If two leaves have the same path.
    """
    leaves = [
        (leaf_path(keys), leaf) for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    ]
    by_path = dict(leaves)
    if len(by_path) < len(leaves):
        twice = next(path for path, leaf in leaves if by_path[path] is not leaf)
        raise ValueError(f"two parameters have the path {twice!r}")
    return by_path


def leaf_path(keys: Sequence[Any]) -> str:
    """Returns the keys of a leaf of a tree as its path; NNX wraps arrays in a `value`."""
    names = [getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in keys]
    is_wrapped = len(keys) > 1 and keys[-1] == jax.tree_util.GetAttrKey("value")
    return "/".join(str(name) for name in (names[:-1] if is_wrapped else names))


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts of leaves by path."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def _order_of_shapes(kernels: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Returns the layers as a chain if shapes alone say what reads what.

    Raises:
        ValueError: If they do not, or if the layers are no chain in the order of their names.
    """
    by_name = sorted(kernels, key=lambda name: (len(kernels[name]) == 2, _natural(name)))
    readers = {kernels[name][-2]: name for name in by_name}
    order, width = [], next(iter(readers.keys() - {k[-1] for k in kernels.values()}), None)
    while width in readers:
        order.append(readers.pop(width))
        width = kernels[order[-1]][-1]
    if len(order) == len(kernels) == len({shape[-1] for shape in kernels.values()}):
        return order
    _check_links(by_name, kernels)
    widths = [kernels[by_name[0]][-2], *(kernels[name][-1] for name in by_name)]
    width = next(width for width in widths if widths.count(width) > 1)
    raise ValueError(
        f"{by_name[0]}/kernel ... {by_name[-1]}/kernel: names and shapes leave open which layer "
        f"reads which, as the width {width} occurs more than once in {'-'.join(map(str, widths))}; "
        f"{_HOW}, or, if it is a chain of layers without shortcuts "
        f"and recurrence, give them from input to output, as in order={by_name}"
    )


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _check_links(order: Sequence[str], kernels: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that every layer reads as many neurons as the one before it has."""
    for before, name in itertools.pairwise(order):
        shape, kernel = kernels[before], kernels[name]
        if kernel[-2] == shape[-1]:
            continue
        message = f"{name}/kernel: {kernel[-2]} inputs, but {before}/kernel has {shape[-1]} outputs"
        if len(shape) > 2 and len(kernel) == 2 and kernel[-2] % shape[-1] == 0:
            message += (
                f" (a flattened map of {kernel[-2] // shape[-1]} positions?); put a global pooling "
                "between the convolutions and the first dense layer"
            )
        else:
            message += f"; if the layers have another order, give it with `order=`; {_HOW}"
        raise ValueError(message)
