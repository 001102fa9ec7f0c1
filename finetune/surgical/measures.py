"""What is measured of adapted networks: accuracies, groups, gains over full tuning, profiles."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from common.evaluation import SumCount
from common.networks import StatefulNetwork
from finetune import criteria
from finetune.blocks import ALL, Blocks
from finetune.surgical.candidates import Plan
from finetune.surgical.sources import cross_entropy

PyTree = Any


def counted(values: dict[str, Array]) -> dict[str, SumCount]:
    """Returns numbers as the loop takes them."""
    return {name: (value, jnp.ones_like(value)) for name, value in values.items()}


def accuracies(right: Bool[Array, " n"], rows: PyTree, *, with_groups: bool) -> dict[str, Array]:
    """Returns the accuracy in percent, and that of the worst of four groups.

    A group is a half of the classes and a value of the attribute.

    Source: Lee et al. (2023), Waterbirds and CelebA; Sagawa et al. (2020), group DRO.
    """
    found = {"test": 100 * jnp.mean(right)}
    if with_groups:
        number = 2 * rows["half"] + rows["group"]
        is_in = number[None] == jnp.arange(4)[:, None]
        rates = jnp.sum(is_in & right[None], axis=1) / jnp.sum(is_in, axis=1)
        found["worst"] = 100 * jnp.min(rates)
    return found


def of_selection(
    planned: Plan, valid: Float[Array, "*seeds candidates epochs"]
) -> dict[str, Array]:
    """Returns the best validation accuracy of every way to tune."""
    of_ways = jnp.split(jnp.max(valid, axis=-1), np.cumsum(planned.sizes)[:-1], axis=-1)
    pairs = zip(planned.choices, of_ways, strict=True)
    return {f"valid_{name}": jnp.max(best, axis=-1) for name, best in pairs}


def gains(planned: Plan, found: dict[str, Array]) -> dict[str, Array]:
    """Returns by how many points each way beats the tuning of everything.

    "gain_surgical" is that of the block with the best validation accuracy.

    Source: Lee et al. (2023), Cross-Val: the block is chosen by held-out target data.
    """
    if ALL not in planned.choices:
        return {}
    whole = found[f"test_{ALL}"]
    more = {f"gain_{name}": found[f"test_{name}"] - whole for name in planned.choices}
    blocks = [name for name in planned.choices if name.startswith("block") or name == "last"]
    if blocks:
        best = jnp.argmax(jnp.stack([found[f"valid_{name}"] for name in blocks]))
        more["test_surgical"] = jnp.stack([found[f"test_{name}"] for name in blocks])[best]
        more["gain_surgical"] = more["test_surgical"] - whole
    return more


def loss_of_rows(
    net: StatefulNetwork, model_state: PyTree, params: PyTree, rows: PyTree
) -> Float[Array, ""]:
    """Returns the mean cross-entropy of examples."""
    logits, _ = net.apply(params, model_state, rows["image"])
    return cross_entropy(logits, rows["label"])


def profiles(
    loss: Callable[[PyTree, PyTree], Array],
    start: PyTree,
    source: PyTree,
    shifted: PyTree,
    clean: PyTree,
    blocks: Blocks,
) -> dict[str, Array]:
    """Returns relative gradient norms of every block, of the target set and of clean images.

    "ratio_last" is the one over the other, each over its maximum. "named" is the number of the
    block where that is largest.

    Source: Lee et al. (2023), relative gradient norms, before tuning and by block.
    """
    found, of_blocks = {}, {}
    for name, params, rows in (("rgn", start, shifted), ("clean", source, clean)):
        grads = jax.grad(loss)(params, rows)
        of_blocks[name] = criteria.relative_gradient_norm(grads, params, blocks).blocks
        found |= {f"{name}_{block}": of_blocks[name][i] for i, block in enumerate(blocks.names)}
    scaled = {name: values / jnp.max(values) for name, values in of_blocks.items()}
    ratio = scaled["rgn"] / scaled["clean"]
    found |= {f"ratio_{block}": ratio[i] for i, block in enumerate(blocks.names)}
    place = jnp.argmax(ratio)
    return found | {f"named_{block}": 1.0 * (place == i) for i, block in enumerate(blocks.names)}
