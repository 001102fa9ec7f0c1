"""Adapting to single images without labels: one step down the entropy of the mean prediction.

    answer = memo(apply, augment, key=key)                     # for one image after the other
    found = jax.jit(answer)(tuned, frozen, images)             # tuned: the whole, or a block
    found.predictions, found.tuned

Copies of an image should be classified alike and with confidence. Episodic: every image starts
from the given weights; online: weights are carried along the stream.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from common.subtrees import join
from finetune.adaptation import Apply
from finetune.augmix import augmented

PyTree = Any
COPIES = 32
LEARNING_RATE = 0.005


class Answers(NamedTuple):
    """What a stream of images was taken for.

    Attributes:
        predictions: Classes after the step of each image.
        entropies: Of the mean prediction over copies, before the step.
        tuned: The tuned leaves at the end; where each image starts anew, as they were.
    """

    predictions: Integer[Array, " n"]
    entropies: Float[Array, " n"]
    tuned: PyTree


def marginal_entropy(logits: Float[Array, "copies classes"]) -> Float[Array, ""]:
    """Returns the entropy of the mean of the predicted distributions, from logarithms throughout.

    Source: Zhang et al. (2022): MEMO: marginal entropy.
    """
    of_copies = jax.nn.log_softmax(logits, axis=-1)
    mean = jax.nn.logsumexp(of_copies, axis=0) - jnp.log(float(logits.shape[0]))
    # p log p is 0 at p = 0, and so is its derivative here.
    return -jnp.sum(jnp.where(mean > -jnp.inf, jnp.exp(mean) * mean, 0.0))


def memo(
    apply: Apply,
    *,
    key: PRNGKeyArray,
    online: bool = False,
    copies: int = COPIES,
    learning_rate: float = LEARNING_RATE,
    steps: int = 1,
    augment: Callable[[PRNGKeyArray, Array], Array] | None = None,
    prepare: Callable[[Array], Array] = lambda images: images,
) -> Callable[[PyTree, PyTree, Float[Array, "n h w c"]], Answers]:
    """Returns (tuned, frozen, images) -> Answers: a step of gradient descent for each image.

    Source: Zhang et al. (2022): MEMO, episodic; Lee et al. (2023), Table 2: online, and of a block.

    Args:
        apply: (params, inputs) -> logits; batch normalization by running statistics. Within loops:
            `finetune.programs.loop_safe`.
        key: Of augmentations; image i has fold_in(key, i).
        online: The weights of one image are the start of the next.
        copies: Of an image.
        learning_rate: Of the step.
        steps: For each image.
        augment: (key, image) -> copies; None: `augmix.augmented`, of images in [0, 1].
        prepare: Of images in [0, 1], what the network takes, such as normalized ones.
    """
    draw = augment or (lambda key, image: augmented(key, image, count=copies))

    def run(tuned: PyTree, frozen: PyTree, images: Array) -> Answers:
        def entropy(tuned: PyTree, inputs: Array) -> Array:
            return marginal_entropy(apply(join(tuned, frozen), inputs))

        def one(now: PyTree, entry: tuple[Array, Array]) -> tuple[PyTree, tuple[Array, Array]]:
            number, image = entry
            inputs = prepare(draw(jax.random.fold_in(key, number), image))

            def step(moved: PyTree, _: None) -> tuple[PyTree, Array]:
                value, grads = jax.value_and_grad(entropy)(moved, inputs)
                return jax.tree.map(lambda p, g: p - learning_rate * g, moved, grads), value

            after, values = jax.lax.scan(step, now, None, length=steps)
            logits = apply(join(after, frozen), prepare(image[None]))
            found = (jnp.argmax(logits[0], axis=-1), values[0])
            return (after if online else now), found

        tuned, found = jax.lax.scan(one, tuned, (jnp.arange(len(images)), images))
        return Answers(*found, tuned)

    return run
