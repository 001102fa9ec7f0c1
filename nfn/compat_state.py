"""States of modules of PyTorch as NumPy arrays by name, and what may be wrong with them."""

from collections.abc import Mapping

import jax
import numpy as np

State = Mapping[str, np.ndarray]


def submodule(state: State, name: str) -> State:
    """Returns the state of one module of a model, such as "nfnet.0" or "0".

    Raises:
        ValueError: If the model has no such module with parameters; the message lists those it has.
    """
    part = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
    if not part:
        raise ValueError(f"no module {name!r} in the state; {_modules_of(state)}")
    return part


def entry(state: State, name: str) -> np.ndarray:
    """Returns one array of a state, in float32 or float64.

    Raises:
        ValueError: If the state lacks it, or holds float64 where JAX has only float32.
    """
    if name not in state:
        raise ValueError(
            f"{name}: missing in the state; {_modules_of(state)}; for a layer of a model give "
            "`nfn.compat_state.submodule(state, name)`"
        )
    array = as_exact(name, state[name])
    return array.astype(np.promote_types(array.dtype, np.float32), copy=False)


def as_exact(name: str, array: np.ndarray) -> np.ndarray:
    """Returns an array that JAX can hold as it is.

    Raises:
        ValueError: If JAX would round it from float64 to float32.
    """
    array = np.asarray(array)
    if array.dtype == np.float64 and jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise ValueError(
            f"{name}: float64, but JAX computes in float32; set jax_enable_x64, or round it on "
            "purpose with `astype(numpy.float32)`"
        )
    return array


def _modules_of(state: State) -> str:
    names = list(dict.fromkeys(key.rpartition(".")[0] or key for key in state))
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"it has parameters of {shown or 'nothing'}"
