"""Gradients over slices of a batch, on four devices: each has its share of every slice."""

import json

from tests.processes import Child

CODE = """
import json, re, jax, numpy as np, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from common.gradients import accumulated, plain, sam
from common.sharding import make_mesh

def loss(params, data, batch, key):
    y = jnp.tanh(batch["x"] @ params["in"]) @ params["out"]
    return jnp.mean((y - batch["y"]) ** 2), {}

random = np.random.default_rng(0)
draw = lambda *shape: random.normal(size=shape).astype(np.float32)
params, batch = {"in": draw(3, 48), "out": draw(48, 5)}, {"x": draw(64, 3), "y": draw(64, 5)}
mesh = make_mesh({"data": -1})
rows = jax.device_put(batch, NamedSharding(mesh, P("data")))
kinds = {"accumulated": (accumulated(4), plain), "joint groups": (sam(0.3, m=32),) * 2}
found = {}
for name, (kind, alone) in kinds.items():
    wanted = jax.jit(alone(loss))(params, {}, batch, jax.random.key(0))
    with jax.set_mesh(mesh):
        compiled = jax.jit(kind(loss)).lower(params, {}, rows, jax.random.key(0)).compile()
        got = compiled(params, {}, rows, jax.random.key(0))
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    text = compiled.as_text()
    counts = re.findall(r"f32\\[(\\d+),48\\]\\S* dot\\(", text)
    found[name] = {
        "error": max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs),
        # Rows of products with the hidden units; 3 and 5 are those of gradients of matrices.
        "rows": sorted({int(n) for n in counts} - {3, 5}),
        "gathered": "all-gather(" in text,
    }
print(json.dumps(found))
"""


def test_every_device_computes_its_share_of_a_slice(child: Child) -> None:
    done = child(CODE, devices=4)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    # 64 rows in 4 slices: 4 rows of a slice on each of 4 devices; 2 groups of 32: 8 rows.
    assert found["accumulated"]["rows"] == [4]
    assert not found["accumulated"]["gathered"]
    assert found["joint groups"]["rows"] == [8]
    for name, one in found.items():
        assert one["error"] < 1e-5, name  # sums in another order, float32
