"""Fits, zoos and attention over two devices: the same networks, which stay where they are."""

import hashlib
import itertools
import json
from typing import Any

import jax
import numpy as np
import pytest

from nfn.siren import fit_sirens
from nfn.zoo import train_zoo
from tests.nfn.test_siren import FIT, smooth_images
from tests.nfn.test_zoo import CNN, images
from tests.processes import Child

MLP = CNN._replace(channels=(36,), dense=(5, 3))  # less to compile than a CNN

pytestmark = pytest.mark.optimized  # bits are those of programs as users have them


def made() -> dict[str, Any]:
    """Returns a checksum of fitted SIRENs, and the weights of a zoo, by all devices."""
    fitted = fit_sirens(smooth_images(10), **FIT)
    bits = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(fitted))
    zoo = train_zoo(images(MLP.channels), MLP, np.arange(5), chunk=2)
    weights = [np.ravel(leaf).tolist() for leaf in jax.tree.leaves(zoo.params)]
    return {"sirens": hashlib.sha256(bits).hexdigest(), "zoo": list(itertools.chain(*weights))}


@pytest.mark.slow
def test_two_devices_fit_the_same_sirens_to_the_bit_and_train_the_same_zoo(child: Child) -> None:
    code = (
        "import json, jax; from tests.nfn.test_devices import made; "
        "assert jax.local_device_count() == 2; print(json.dumps(made()))"
    )
    done = child(code, devices=2)
    assert done.returncode == 0, done.stderr
    two, one = json.loads(done.stdout), made()

    assert two["sirens"] == one["sirens"]
    # 12 steps of at most 0.01: one more rounding in a product is all that a device may change.
    np.testing.assert_allclose(two["zoo"], one["zoo"], rtol=0, atol=1e-4)
    assert np.std(one["zoo"]) > 0.05


IN_TURN = """
import re
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from common.sharding import make_mesh
from nfn import attention
from nfn.features import feature_shapes
from nfn.weights import mlp_space

space, random = mlp_space((2, 4, 3, 1)), np.random.default_rng(0)
shapes = feature_shapes(space, 4).items()
x = {path: random.standard_normal((8, *shape)).astype(np.float32) for path, shape in shapes}
params = attention.init_attention(jax.random.key(0), space=space, c=4)
layer = partial(attention.attention, space=space, num_heads=2)

def loss(params, x):
    y = attention.by_networks(layer, params, x, 2)
    return jnp.sum(jnp.stack([jnp.sum(jnp.sin(leaf)) for leaf in y.values()]))

alone = jax.grad(loss)(params, x)
mesh = make_mesh({"data": -1})
rows = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
with jax.set_mesh(mesh):
    compiled = jax.jit(jax.grad(loss)).lower(params, rows).compile()
pairs = zip(jax.tree.leaves(alone), jax.tree.leaves(compiled(params, rows)), strict=True)
errors = [float(jnp.abs(a - b).max() / (1 + jnp.abs(a).max())) for a, b in pairs]
print(mesh.size, max(errors) < 1e-5)
print(len(re.findall(r" while\\(", compiled.as_text())) > 0)
print([name for name in ("all-gather", "all-to-all", "permute") if name in compiled.as_text()])
computations = re.split(r"\\n(?=ENTRY|%)", compiled.as_text())
print([text.startswith("ENTRY") for text in computations if " all-reduce(" in text])
"""


@pytest.mark.slow
def test_networks_in_turn_stay_on_their_devices_and_sum_gradients_once(child: Child) -> None:
    done = child(IN_TURN, devices=2)

    # The last line: there is one sum over devices, and it is not in the loop over networks.
    assert done.stdout.splitlines() == ["2 True", "True", "[]", "[True]"], done.stdout + done.stderr
