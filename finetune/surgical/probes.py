"""Whether the last layer could do it: a linear probe of a source network's features.

A function `config -> metrics` of cells; the config is that of the experiment `adapt`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from finetune.shifts import worst_group
from finetune.surgical import data as shift_data
from finetune.surgical import sources
from finetune.surgical.networks import make_network

RIDGE = 1e-2  # of the mean square of a feature


def ridge(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], num_classes: int
) -> Float[np.ndarray, "d_and_one classes"]:
    """Returns the coefficients of ridge regression on one-hot labels, the last row the constant."""
    x = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    targets = np.eye(num_classes)[labels]
    penalty = RIDGE * np.mean(x**2) * len(x) * np.eye(x.shape[1])
    return np.linalg.solve(x.T @ x + penalty, x.T @ targets)


def balanced(config: ConfigDict) -> dict[str, float]:
    """Returns accuracies in percent of a probe that is trained on the whole pool of the target.

    In the pool the background is independent of the label. The probe reads what the last layer
    reads: where it is as good as the source network before the shift, core features are decodable,
    and tuning the last layer could be enough.
    """
    spec = shift_data.shift_spec(config.source.data, config.pixels, config.shift)
    section = sources.section(config)
    networks = sources.trained(section, config.num_sources)
    params = jax.tree.map(lambda x: jnp.asarray(x[config.seed % len(x)]), networks.params)
    width = section.model.widths[-1]
    wide = ConfigDict({**section.model.to_dict(), "num_classes": width})
    net = make_network(wide, (spec.base.size, spec.base.size, spec.base.channels))
    head = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
    read = jax.jit(lambda images: net.apply({**params, "head": head}, {}, images)[0])
    target = shift_data.target(spec)
    pool, test = target["pool"], target["test"]
    found = ridge(np.asarray(read(pool["image"]), float), pool["label"], 10)
    features = np.asarray(read(test["image"]), float)
    scores = np.concatenate([features, np.ones((len(features), 1))], axis=1) @ found
    right = 1.0 * (scores.argmax(1) == test["label"])
    worst = worst_group(right, test["half"], test["group"])
    return {"probe": 100 * float(right.mean()), "probe_worst": 100 * worst}
