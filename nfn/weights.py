"""Weight spaces: which axis of which parameter tensor a neuron permutation acts on.

A `WeightSpace` labels every axis of every parameter tensor with the permutation group acting on
it, or with None if the axis is fixed (filter positions; inputs and outputs if they have an
order). Everything else of this topic is derived from these labels. An axis of size 1 counts as
fixed, because only the identity acts on it.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flax import traverse_util

INPUT, OUTPUT = "input", "output"

Params = Mapping[str, Any]


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

    Source: Zhou et al. (2023), Sec. 2.1 (group NP; `hidden_only` turns it into HNP).
    """
    return cnn_space(channels=widths[:1], filters=(), dense=widths[1:])


def cnn_space(
    *, channels: Sequence[int], filters: Sequence[tuple[int, ...]], dense: Sequence[int] = ()
) -> WeightSpace:
    """Returns the weight space of convolutions, global average pooling, then dense layers.

    Source: Zhou et al. (2023), Sec. 2.1 and App. B (convolutions). Layers are named as Flax
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


def _chain(layers: Sequence[tuple[str, tuple[int, ...], bool]]) -> WeightSpace:
    """Labels consecutive layers (name, kernel shape, has bias) with one group per interface."""
    if not layers:
        raise ValueError("a weight space needs at least one layer")
    hidden = [f"hidden_{i}" for i in range(1, len(layers))]
    groups = [INPUT, *hidden, OUTPUT]
    tensors = []
    for (name, shape, has_bias), before, after in zip(layers, groups, groups[1:], strict=False):
        labels = (*[None] * (len(shape) - 2), before, after)
        tensors.append(TensorSpec(f"{name}/kernel", shape, labels))
        if has_bias:
            tensors.append(TensorSpec(f"{name}/bias", shape[-1:], (after,)))
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


def space_from_params(params: Params) -> WeightSpace:
    """Infers the weight space of one MLP or CNN from its Flax parameters (or their shapes).

    Layers are ordered by name, numbers as numbers, convolutions before dense layers. A layer may
    lack its bias. Between convolutions and dense layers there must be a global pooling.

    Raises:
        ValueError: If a tensor does not fit the chain; the message names it.
    """
    leaves: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    names = {path.rpartition("/")[0] for path in shapes}
    for path, shape in shapes.items():
        name, _, leaf = path.rpartition("/")
        if leaf not in ("kernel", "bias") or (leaf == "kernel" and len(shape) < 2):
            raise ValueError(
                f"{path}: shape {shape} is neither a dense kernel (in, out), a convolution kernel "
                "(..., in, out) nor a bias"
            )
        if f"{name}/kernel" not in shapes:
            raise ValueError(f"{path}: layer {name!r} has no kernel")
    order = sorted(names, key=lambda name: (len(shapes[f"{name}/kernel"]) == 2, _natural(name)))
    for before, name in zip([None, *order], order, strict=False):
        kernel, bias = shapes[f"{name}/kernel"], shapes.get(f"{name}/bias")
        if bias is not None and bias != kernel[-1:]:
            raise ValueError(f"{name}/bias: shape {bias}, expected {kernel[-1:]} as {name}/kernel")
        if before is not None:
            _check_link(before, shapes[f"{before}/kernel"], name, kernel)
    return _chain([(name, shapes[f"{name}/kernel"], f"{name}/bias" in shapes) for name in order])


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _check_link(before: str, shape: tuple[int, ...], name: str, kernel: tuple[int, ...]) -> None:
    if kernel[-2] == shape[-1]:
        return
    message = f"{name}/kernel: {kernel[-2]} inputs, but {before}/kernel has {shape[-1]} outputs"
    if len(shape) > 2 and len(kernel) == 2 and kernel[-2] % shape[-1] == 0:
        message += (
            f" (a flattened map of {kernel[-2] // shape[-1]} positions?); put a global pooling "
            "between the convolutions and the first dense layer"
        )
    raise ValueError(message)
