"""AugMix in JAX: crops, flips and mixed chains of image operations, for whole batches of copies.

    copies = augmented(key, image, count=32)      # [32, h, w, c] of one image in [0, 1]

An operation is drawn among nine, with its strength: contrast stretched, histogram equalized,
posterized, rotated, solarized, sheared and moved along both axes.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray

Image: TypeAlias = Float[Array, "h w c"]
Scalar: TypeAlias = Float[Array, ""]
LEVELS = 256
PADDING = 4  # pixels that a crop may move by
WIDTH, DEPTH = 3, 3  # chains, and operations of a chain at most
SEVERITY = 3  # of 10: the largest strength that is drawn


def augmented(
    key: PRNGKeyArray, image: Image, *, count: int, severity: float = SEVERITY
) -> Float[Array, "count h w c"]:
    """Returns copies of an image, each cropped, flipped and mixed by draws of its own.

    Source: Zhang et al. (2022): MEMO: AugMix behind random crops and flips.

    Args:
        key: Of all draws.
        image: In [0, 1].
        count: Of copies.
        severity: Strengths are drawn up to this share of ten.
    """

    def one(number: Array) -> Image:
        of_copy = jax.random.fold_in(key, number)
        keys = jax.random.split(of_copy)
        return augmix(keys[1], cropped_and_flipped(keys[0], image), severity=severity)

    return jax.lax.map(one, jnp.arange(count))


def cropped_and_flipped(key: PRNGKeyArray, image: Image) -> Image:
    """Returns the image moved by up to 4 pixels, 0 around it, and mirrored in half of the cases."""
    keys = jax.random.split(key)
    height, width, channels = image.shape
    padded = jnp.pad(image, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    at = jax.random.randint(keys[0], (2,), 0, 2 * PADDING + 1)
    crop = jax.lax.dynamic_slice(padded, (at[0], at[1], 0), (height, width, channels))
    return jnp.where(jax.random.bernoulli(keys[1]), crop[:, ::-1], crop)


def augmix(key: PRNGKeyArray, image: Image, *, severity: float = SEVERITY) -> Image:
    """Returns (1 - m) image + m sum_i w_i chain_i(image).

    Source: Hendrycks et al. (2020): three chains of one to three operations, w ~ Dirichlet(1, 1,
    1), m ~ Beta(1, 1).
    """
    of_weights, of_share, of_chains = jax.random.split(key, 3)
    weights = jax.random.dirichlet(of_weights, jnp.ones(WIDTH))
    share = jax.random.uniform(of_share)  # Beta(1, 1)

    def add(total: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
        number, weight = entry
        chain = random_chain(jax.random.fold_in(of_chains, number), image, severity)
        return total + weight * chain, None

    mixed, _ = jax.lax.scan(add, jnp.zeros_like(image), (jnp.arange(WIDTH), weights))
    return (1 - share) * image + share * mixed


def random_chain(key: PRNGKeyArray, image: Image, severity: float) -> Image:
    """Returns the image behind one to three operations that are drawn, with their strengths."""
    of_depth, of_operations = jax.random.split(key)
    depth = jax.random.randint(of_depth, (), 1, DEPTH + 1)

    def once(number: Array, image: Array) -> Array:
        drawn = jax.random.split(jax.random.fold_in(of_operations, number), 3)
        which = jax.random.randint(drawn[0], (), 0, len(OPERATIONS))
        level = jax.random.uniform(drawn[1], minval=0.1, maxval=severity) / 10
        sign = jnp.where(jax.random.bernoulli(drawn[2]), 1.0, -1.0)
        return jax.lax.switch(which, list(OPERATIONS.values()), image, level, sign)

    return jax.lax.fori_loop(0, depth, once, image)


def stretched(image: Image, level: Scalar, sign: Scalar) -> Image:
    """Returns every channel stretched to [0, 1]; one of a single value stays."""
    del level, sign
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1.0), image)


def equalized(image: Image, level: Scalar, sign: Scalar) -> Image:
    """Returns every channel with a histogram as flat as 256 levels allow."""
    del level, sign

    def channel(values: Float[Array, "h w"]) -> Float[Array, "h w"]:
        steps = jnp.clip(jnp.round(values * (LEVELS - 1)), 0, LEVELS - 1).astype(int)
        below = jnp.cumsum(jnp.zeros(LEVELS).at[steps.reshape(-1)].add(1.0))
        first = below[jnp.min(steps)]
        span = steps.size - first
        flat = (below[steps] - first) / jnp.maximum(span, 1)
        return jnp.where(span > 0, flat, values)

    return jax.vmap(channel, in_axes=2, out_axes=2)(image)


def posterized(image: Image, level: Scalar, sign: Scalar) -> Image:
    """Returns the image with its 4 - 4 level highest bits, of 8."""
    del sign
    size = 2.0 ** (8 - jnp.maximum(4 - jnp.floor(4 * level), 1))
    return jnp.floor(image * (LEVELS - 1) / size) * size / (LEVELS - 1)


def solarized(image: Image, level: Scalar, sign: Scalar) -> Image:
    """Returns the image with values of 1 - level and more inverted."""
    del sign
    return jnp.where(image < 1 - level, image, 1 - image)


def rotated(image: Image, level: Scalar, sign: Scalar) -> Image:
    """Returns the image turned by up to 30 degrees."""
    angle = sign * level * jnp.pi / 6
    c, s = jnp.cos(angle), jnp.sin(angle)
    return _affine(image, jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])]), jnp.zeros(2))


def sheared(axis: int) -> Callable[[Image, Scalar, Scalar], Image]:
    """Returns the operation that shears by up to 0.3 along an axis, 0 down and 1 across."""

    def operation(image: Image, level: Scalar, sign: Scalar) -> Image:
        matrix = jnp.eye(2).at[axis, 1 - axis].set(sign * level * 0.3)
        return _affine(image, matrix, jnp.zeros(2))

    return operation


def moved(axis: int) -> Callable[[Image, Scalar, Scalar], Image]:
    """Returns the operation that moves by up to a third of the side along an axis."""

    def operation(image: Image, level: Scalar, sign: Scalar) -> Image:
        shift = jnp.zeros(2).at[axis].set(sign * jnp.floor(level * image.shape[axis] / 3))
        return _affine(image, jnp.eye(2), shift)

    return operation


def _affine(image: Image, matrix: Float[Array, "2 2"], shift: Float[Array, " 2"]) -> Image:
    """Returns the image read at matrix (p - middle) + middle + shift, bilinear, 0 outside."""
    height, width, _ = image.shape
    middle = jnp.array([(height - 1) / 2, (width - 1) / 2])
    places = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"))
    from_middle = places.reshape(2, -1) - middle[:, None]
    at = (matrix @ from_middle + (middle + shift)[:, None]).reshape(2, height, width)

    def channel(values: Float[Array, "h w"]) -> Any:
        return map_coordinates(values, [at[0], at[1]], order=1, mode="constant")

    return jax.vmap(channel, in_axes=2, out_axes=2)(image)


OPERATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "stretched": stretched,
    "equalized": equalized,
    "posterized": posterized,
    "rotated": rotated,
    "solarized": solarized,
    "sheared down": sheared(0),
    "sheared across": sheared(1),
    "moved down": moved(0),
    "moved across": moved(1),
}
