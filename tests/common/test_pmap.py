"""Steps stay valid under pmap, which the loop does not use but others may."""

from tests.processes import Child

CODE = """
import jax, numpy as np
from common.experiment import build
from tests.common.toys import toy_config

experiment = build(toy_config("regression"))
keys = jax.random.split(jax.random.key(0), 4)
states = jax.vmap(experiment.init)(keys)
data = jax.tree.map(jax.numpy.asarray, experiment.data())
batches = {"index": np.stack([experiment.batch(i)["index"] for i in range(4)])}
axes = (0, None, 0, 0)
mapped = jax.vmap(experiment.step, in_axes=axes)(states, data, batches, keys)
spread = jax.pmap(experiment.step, in_axes=axes)(states, data, batches, keys)
assert len(jax.tree.leaves(spread)[0].devices()) == 4
pairs = zip(jax.tree.leaves(mapped), jax.tree.leaves(spread), strict=True)
print(max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs))
losses = np.asarray(spread[1]["loss"])
print(np.ptp(losses))
"""


def test_a_step_under_pmap_does_what_it_does_under_vmap(child: Child) -> None:
    done = child(CODE, devices=4)
    assert done.returncode == 0, done.stderr
    difference, spread = map(float, done.stdout.split()[-2:])
    assert difference < 1e-6  # float32, values of order 1
    assert spread > 1e-3  # the four members do differ
