"""What table unsupervised says: a stream of images without labels, tuned by MEMO in some block.

A function `config -> metrics` of cells; the config is that of the experiment `adapt`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common.networks import StatefulNetwork
from finetune.augmix import augmix
from finetune.blocks import resnet_blocks, split, tuned_mask
from finetune.memo import memo
from finetune.surgical import data as shift_data
from finetune.surgical import sources
from finetune.surgical.streams import CHOICES, COPIES, IMAGES

PyTree = Any
RATE = 0.005  # Zhang et al. (2022)
STREAM = 13  # of random numbers, beside the seed


def copies_of(key: Array, image: Float[Array, "h w c"]) -> Float[Array, "copies h w c"]:
    """Returns copies of an image, each mirrored in half of the cases and mixed by AugMix.

    Source: Zhang et al. (2022): MEMO, without crops: 4 of 14 pixels would leave too little.
    """

    def one(key: Array) -> Array:
        of_side, of_mix = jax.random.split(key)
        side = jnp.where(jax.random.bernoulli(of_side), image[:, ::-1], image)
        return augmix(of_mix, side)

    return jax.vmap(one)(jax.random.split(key, COPIES))


def streams(config: ConfigDict) -> dict[str, float]:
    """Returns accuracies in percent on a stream, by tuned block, episodic and online.

    Source: Lee et al. (2023), Table 2: online MEMO in some layers.
    """
    spec = shift_data.shift_spec(config.source.data, config.pixels, config.shift)
    section = sources.section(config)
    net, networks = sources.network_of(section), sources.trained(section, config.num_sources)
    params = jax.tree.map(lambda x: jnp.asarray(x[config.seed % len(x)]), networks.params)
    test = shift_data.target(spec)["test"]
    random = np.random.default_rng((config.seed, STREAM))
    rows = random.permutation(len(test["label"]))[:IMAGES]
    images, labels = test["image"][rows], test["label"][rows]
    mean, deviation = (
        np.asarray(numbers, np.float32).reshape(1, 1, 1, -1)
        for numbers in (spec.mean, spec.deviation)
    )
    pixels = jnp.asarray(images * deviation + mean)
    prepare = lambda x: (x - mean) / deviation
    found = {}
    for name, blocks in CHOICES.items():
        for kind in ("episodic", "online"):
            if not blocks:
                logits = net.apply(params, {}, jnp.asarray(images))[0]
                predictions = jnp.argmax(logits, axis=-1)
            else:
                predictions = _predictions(net, params, blocks, kind, pixels, prepare)
            right = np.asarray(predictions) == labels
            found[f"{kind}_{name}"] = 100 * float(np.mean(right))
    return found


def _predictions(
    net: StatefulNetwork,
    params: PyTree,
    blocks: tuple[str, ...],
    kind: str,
    pixels: Array,
    prepare: Any,
) -> Array:
    mask = tuned_mask(params, resnet_blocks(params), blocks)
    tuned, frozen = split(params, mask)
    apply = lambda params, inputs: net.apply(params, {}, inputs)[0]
    answer = memo(
        apply,
        key=jax.random.key(0),
        online=kind == "online",
        learning_rate=RATE,
        augment=copies_of,
        prepare=prepare,
    )
    return jax.jit(partial(answer))(tuned, frozen, pixels).predictions
