"""Meshes, path rules for where arrays live, and placing host arrays on devices."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from common.errors import UserError

PyTree = Any
Spec = PartitionSpec | Callable[[tuple[int, ...], Mesh], PartitionSpec]
Rules = Sequence[tuple[str, Spec]]


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh with the axes of `sizes` in order; -1 stands for all devices left.

    Several TPU slices, or machines with GPUs, each hold a part of the axis "data" (the first, if
    there is none of that name); the other axes stay inside a slice.

    Raises:
        UserError: If the sizes do not multiply to the number of devices, or that of the axis which
            is split is no multiple of the number of slices.
    """
    devices = jax.devices() if devices is None else devices
    known = math.prod(size for size in sizes.values() if size != -1)
    full = {name: len(devices) // known if size == -1 else size for name, size in sizes.items()}
    if math.prod(full.values()) != len(devices):
        raise UserError(
            f"config.mesh={dict(sizes)}: the axis sizes must multiply to the number of devices, "
            f"{len(devices)} ({devices[0].device_kind})"
        )
    axis_types = (AxisType.Auto,) * len(full)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1:
        return Mesh(_over_slices(full, slices, devices), tuple(full), axis_types=axis_types)
    # 16 x 16 on a torus of 4 x 8 x 8 chips splits one of its sides, which `jax.make_mesh` refuses
    # to do but on a v5e; where no side need be split it gives the same mesh.
    places = mesh_utils.create_device_mesh(
        tuple(full.values()), tuple(devices), allow_split_physical_axes=True
    )
    return Mesh(places, tuple(full), axis_types=axis_types)


def _over_slices(full: Mapping[str, int], slices: int, devices: Sequence[Any]) -> np.ndarray:
    """Returns devices by their place in a mesh over several slices, which `make_mesh` refuses."""
    split = "data" if "data" in full else next(iter(full))
    if full[split] % slices:
        raise UserError(
            f"config.mesh={dict(full)}: the devices are in {slices} slices, so the size of the "
            f"axis {split}, which is split over them, must be a multiple of {slices}"
        )
    across = [slices if name == split else 1 for name in full]
    inside = [size // n for size, n in zip(full.values(), across, strict=True)]
    return mesh_utils.create_hybrid_device_mesh(
        inside, across, devices, allow_split_physical_axes=True
    )


def describe(mesh: Mesh) -> str:
    """Returns the devices of a mesh in words: "8 x TPU v5 lite, mesh data=8, 2 processes"."""
    devices = list(mesh.devices.flat)
    sides = ", ".join(f"{name}={size}" for name, size in mesh.shape.items())
    processes = len({device.process_index for device in devices})
    several = f", {processes} processes" if processes > 1 else ""
    return f"{len(devices)} x {devices[0].device_kind}, mesh {sides}{several}"


def fsdp(axis: str = "data", *, min_size: int = 65_536) -> Spec:
    """Returns a rule value that splits an array over `axis` along its largest divisible side.

    Arrays of fewer than `min_size` elements, and those no side of which divides, are replicated.
    """

    def spec(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        if axis not in mesh.shape:
            known = ", ".join(mesh.shape)
            raise UserError(f"sharding rule fsdp({axis!r}): config.mesh has only the axes {known}")
        size = mesh.shape[axis]
        sides = [i for i, n in enumerate(shape) if n % size == 0]
        if math.prod(shape) < min_size or not sides:
            return PartitionSpec()
        best = max(sides, key=lambda i: shape[i])
        return PartitionSpec(*(axis if i == best else None for i in range(len(shape))))

    return spec


def path_name(prefix: str, path: tuple[Any, ...]) -> str:
    """Returns a tree path as "prefix/block_0/conv/kernel"."""
    names = [str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path]
    return "/".join([prefix, *names])


def shardings(tree: PyTree, rules: Rules, mesh: Mesh, prefix: str, *, leading: int = 0) -> PyTree:
    """Returns the NamedSharding of every leaf of `tree`.

    Args:
        tree: Arrays or ShapeDtypeStructs.
        rules: (path regex, PartitionSpec or function (shape, mesh) -> PartitionSpec) pairs; the
            first that `re.search` finds in "prefix/path" wins.
        mesh: The devices.
        prefix: "state", "data" or "batch"; only the last is split by default.
        leading: Axes put before those the rules speak of (the steps of one call); replicated.

    Raises:
        UserError: If a spec names an unknown axis or does not divide a side of the array.
    """

    def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name, shape = path_name(prefix, path), leaf.shape[leading:]
        spec = _find(name, shape, rules, mesh, prefix)
        _check(name, shape, spec, mesh)
        return NamedSharding(mesh, PartitionSpec(*(None,) * leading, *spec))

    return jax.tree_util.tree_map_with_path(one, tree)


def place(tree: PyTree, targets: PyTree) -> PyTree:
    """Returns the host arrays of `tree` on the devices, each process filling its own shards.

    On a CPU they may go on sharing memory with the host arrays, which must not change any more.
    """

    def one(rows: Any, target: NamedSharding) -> jax.Array:
        rows = np.asarray(rows)
        return jax.make_array_from_callback(rows.shape, target, lambda index: rows[index])

    return jax.tree.map(one, tree, targets)


def spread(rows: jax.Array) -> jax.Array:
    """Splits the leading axis over all devices of the mesh under which this is traced.

    Where there is one, and its size divides the axis; not inside `jax.shard_map`, where every
    device has work of its own. For what is taken out of arrays row by row: the compiler would have
    all devices compute all of it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.manual_axes or not rows.ndim or rows.shape[0] % mesh.size:
        return rows
    return jax.lax.with_sharding_constraint(rows, PartitionSpec(tuple(mesh.axis_names)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def _find(
    name: str, shape: tuple[int, ...], rules: Rules, mesh: Mesh, prefix: str
) -> PartitionSpec:
    for pattern, spec in rules:
        if re.search(pattern, name):
            return spec(shape, mesh) if callable(spec) else spec
    if prefix == "batch" and shape and "data" in mesh.shape:
        return PartitionSpec("data")
    return PartitionSpec()


def _check(name: str, shape: tuple[int, ...], spec: PartitionSpec, mesh: Mesh) -> None:
    if len(spec) > len(shape):
        raise UserError(f"sharding rule for {name}: {spec} has more axes than shape {shape}")
    for side, axes in zip(shape, spec, strict=False):
        names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
        unknown = [axis for axis in names if axis not in mesh.shape]
        if unknown:
            raise UserError(
                f"sharding rule for {name}: axis {unknown[0]!r} is not in config.mesh "
                f"({', '.join(mesh.shape)})"
            )
        count = math.prod(mesh.shape[axis] for axis in names)
        if side % count:
            raise UserError(
                f"{name}: a side of {side} does not divide over {'*'.join(names)}={count} "
                f"(config.mesh); choose a multiple of {count}"
            )
