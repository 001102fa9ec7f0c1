"""Side by side with the authors' package: golden_attention.npz, from make_golden_attention.py."""

from functools import partial

import jax
import numpy as np
import pytest

from nfn import attention, encodings
from nfn.compat_attention import attention_from_package, learned_encoding_from_package
from nfn.weights import mlp_space
from tests.nfn.golden import SPACES, Golden

GOLDEN = Golden("golden_attention.npz")
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


@pytest.mark.parametrize(
    ("name", "module"),
    [
        (name, module)
        for name in ("3-4-5-2", "3-2-2-1", "cnn")
        for module in MODULES
        if name == "3-4-5-2" or module in ("separate", "encoding")
    ],
)
def test_attention_and_encodings_compute_what_the_package_does(name: str, module: str) -> None:
    space, state = SPACES[name], GOLDEN.part(f"{name}/{module}/state")
    if module == "encoding":
        params = learned_encoding_from_package(state, space)
        layer = partial(encodings.learned_encoding, params, space=space)
    else:
        params = attention_from_package(state, space, **MODULES[module])
        layer = partial(
            attention.attention, params, space=space, num_heads=HEADS, **MODULES[module]
        )

    actual = jax.jit(layer)(GOLDEN.features(f"{name}/in", space))

    for path, expected in GOLDEN.features(f"{name}/{module}/out", space).items():
        assert np.std(expected) > 0.05
        error = np.abs(actual[path] - expected).max()
        assert error < TOLERANCE * np.abs(expected).max(), path


def test_states_that_do_not_fit_are_refused_by_name() -> None:
    space, state = SPACES["3-4-5-2"], GOLDEN.part("3-4-5-2/separate/state")
    shape = state["weight_to_qkv.1.linear.weight"].shape
    with pytest.raises(ValueError, match=r"unproject_weight.2.linear.bias: missing in the state"):
        attention_from_package(
            {k: v for k, v in state.items() if k != "unproject_weight.2.linear.bias"}, space
        )
    with pytest.raises(ValueError, match=rf"weight_to_qkv.1.linear: weight \({shape[0]}, 2\)"):
        attention_from_package(
            {**state, "weight_to_qkv.1.linear.weight": np.ones((shape[0], 2), np.float32)}, space
        )
    state = GOLDEN.part("3-4-5-2/encoding/state")
    with pytest.raises(ValueError, match=r"weight_emb.weight: shape \(3, 4\), expected 2 rows"):
        learned_encoding_from_package(state, mlp_space([3, 4, 2]))
