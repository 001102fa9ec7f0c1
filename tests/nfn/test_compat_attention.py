"""Side by side with the authors' package: golden_attention.npz, from make_golden_attention.py."""

from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
import pytest

from nfn import attention, encodings
from nfn.compat import features_from_package
from nfn.compat_attention import attention_from_package, learned_encoding_from_package
from nfn.compat_state import State
from nfn.features import Features
from nfn.weights import WeightSpace, cnn_space, mlp_space

SPACES = {
    "3-4-5-2": mlp_space([3, 4, 5, 2]),
    "3-2-2-1": mlp_space([3, 2, 2, 1]),
    "cnn": cnn_space(channels=(2, 3, 4), filters=((1, 2), (2, 1)), dense=(3,)),
}
HEADS = 2
MODULES = {
    "shared": {},
    "shared, neurons": {"use_tensors": False},
    "shared, tensors": {"use_neurons": False},
    "separate": {},
    "separate, neurons": {"use_tensors": False},
    "separate, tensors": {"use_neurons": False},
    "encoding": {},
}
# float32: at most 40 terms of size 10 in a sum, in another order.
TOLERANCE = 1e-5


@cache
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name("golden_attention.npz")) as arrays:
        return dict(arrays)


def part(prefix: str) -> State:
    """Returns the arrays below a name."""
    cut = len(prefix) + 1
    return {k[cut:]: array for k, array in golden().items() if k.startswith(f"{prefix}/")}


def package_features(prefix: str, space: WeightSpace) -> Features:
    arrays = part(prefix)
    count = len(space.tensors) // 2
    weights, biases = ([arrays[f"{k}.{i}"] for i in range(count)] for k in ("weights", "biases"))
    return features_from_package(space, weights, biases)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        (name, module)
        for name in SPACES
        for module in MODULES
        if name == "3-4-5-2" or module in ("separate", "encoding")
    ],
)
def test_attention_and_encodings_compute_what_the_package_does(name: str, module: str) -> None:
    space, state = SPACES[name], part(f"{name}/{module}/state")
    if module == "encoding":
        params = learned_encoding_from_package(state, space)
        layer = partial(encodings.learned_encoding, params, space=space)
    else:
        params = attention_from_package(state, space, **MODULES[module])
        layer = partial(
            attention.attention, params, space=space, num_heads=HEADS, **MODULES[module]
        )

    actual = jax.jit(layer)(package_features(f"{name}/in", space))

    for path, expected in package_features(f"{name}/{module}/out", space).items():
        assert np.std(expected) > 0.05
        error = np.abs(actual[path] - expected).max()
        assert error < TOLERANCE * np.abs(expected).max(), path


def test_states_that_do_not_fit_are_refused_by_name() -> None:
    space, state = SPACES["3-4-5-2"], part("3-4-5-2/separate/state")
    shape = state["weight_to_qkv.1.linear.weight"].shape
    with pytest.raises(ValueError, match=r"unproject_weight.2.linear.bias: missing in the state"):
        attention_from_package(
            {k: v for k, v in state.items() if k != "unproject_weight.2.linear.bias"}, space
        )
    with pytest.raises(ValueError, match=rf"weight_to_qkv.1.linear: weight \({shape[0]}, 2\)"):
        attention_from_package(
            {**state, "weight_to_qkv.1.linear.weight": np.ones((shape[0], 2), np.float32)}, space
        )
    state = part("3-4-5-2/encoding/state")
    with pytest.raises(ValueError, match=r"weight_emb.weight: shape \(3, 4\), expected 2 rows"):
        learned_encoding_from_package(state, mlp_space([3, 4, 2]))
