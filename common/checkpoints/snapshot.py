"""A state as flat arrays on the host, under paths such as "params/dense/kernel", and back.

Only the paths, shapes and dtypes of the leaves are stored, never the Python classes around them.
Typed keys are stored as their data.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from common.checkpoints.manifest import Leaf
from common.errors import UserError, nearest
from common.keys import bits_of, is_key

PyTree = Any


def flatten(state: PyTree) -> dict[str, Any]:
    """Returns the leaves of a state by their paths, "params/dense/kernel", in its order.

    Raises:
        UserError: If two leaves have the same path.
    """
    flat: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if path in flat:
            raise UserError(f"state/{path} is the path of two leaves; rename one")
        flat[path] = leaf
    return flat


def take(state: PyTree) -> tuple[tuple[Leaf, ...], dict[str, Any]]:
    """Returns the description of every leaf, and copies of those with elements, by path.

    Arrays that other processes hold parts of are returned as they are.

    Raises:
        UserError: If a leaf is not an array or scalar, or two leaves have the same path.
    """
    flat = flatten(state)
    for path, leaf in flat.items():
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
            raise UserError(f"state/{path} is a {type(leaf).__name__}; a state holds arrays only")
        if isinstance(leaf, jax.Array) and not is_key(leaf):
            leaf.copy_to_host_async()
    leaves, arrays = [], {}
    for path, leaf in flat.items():
        array = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
        leaves.append(Leaf(path, tuple(array.shape), str(array.dtype)))
        if array.size:
            arrays[path] = _copy(bits_of(array))
    return tuple(leaves), arrays


def digest(state: PyTree) -> str | None:
    """Returns the SHA-256 of a state: paths, shapes, types and bytes of all leaves.

    None if other processes hold parts of it.
    """
    leaves, arrays = take(state)
    if any(isinstance(array, jax.Array) for array in arrays.values()):
        return None
    return digest_of(leaves, arrays)


def digest_of(leaves: Sequence[Leaf], arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of a state of which `take` returned this."""
    total = hashlib.sha256()
    for leaf in leaves:
        total.update(f"{leaf.path} {leaf.dtype} {leaf.shape}\n".encode())
        total.update(arrays[leaf.path].tobytes() if leaf.path in arrays else b"")
    return total.hexdigest()


def check_same(leaves: tuple[Leaf, ...], abstract_state: PyTree, where: str) -> None:
    """Checks that a stored state has the paths, shapes and dtypes of `abstract_state`.

    Raises:
        UserError: Naming `where` and the first path that differs.
    """
    saved, wanted = {leaf.path: leaf for leaf in leaves}, flatten(abstract_state)
    for path, leaf in wanted.items():
        if path not in saved:
            raise UserError(f"{where}: has no state/{path}{nearest(path, saved)}")
        shape, dtype = tuple(leaf.shape), str(leaf.dtype)
        if (shape, dtype) != (saved[path].shape, saved[path].dtype):
            raise UserError(
                f"{where}: state/{path} is {saved[path].dtype}{list(saved[path].shape)}, "
                f"but the experiment wants {dtype}{list(shape)}"
            )
    for path in saved:
        if path not in wanted:
            raise UserError(f"{where}: state/{path} is not part of the experiment's state")


def targets(abstract_state: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shape, dtype and sharding of what `take` stored, by path, without empty arrays."""
    found = {path: _target(leaf) for path, leaf in flatten(abstract_state).items()}
    return {path: target for path, target in found.items() if 0 not in target.shape}


def rebuild(abstract_state: PyTree, arrays: Mapping[str, jax.Array]) -> PyTree:
    """Returns the state whose stored arrays, placed as `targets` says, are `arrays`."""
    leaves = [_rebuilt(leaf, arrays.get(path)) for path, leaf in flatten(abstract_state).items()]
    return jax.tree.unflatten(jax.tree.structure(abstract_state), leaves)


def _copy(array: Any) -> np.ndarray | jax.Array:
    # Never a view: the caller may donate the buffer.
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.array(array)
    return np.array(array.addressable_data(0)) if array.is_fully_replicated else array


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    data = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=_sharding(leaf))


def _rebuilt(leaf: Any, array: jax.Array | None) -> jax.Array:
    if array is None:
        zeros, target = np.zeros(_target(leaf).shape, _target(leaf).dtype), _sharding(leaf)
        array = jax.make_array_from_callback(zeros.shape, target, lambda index: zeros[index])
    if not is_key(leaf):
        return array
    impl = jax.random.key_impl(jnp.empty((), leaf.dtype))
    return jax.device_put(jax.random.wrap_key_data(array, impl=impl), _sharding(leaf))


def _sharding(leaf: Any) -> jax.sharding.Sharding:
    given = getattr(leaf, "sharding", None)
    return given or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
