"""Shifts from a source to a target distribution that are no corruption of pixels by a camera.

Shifts of the input that are exactly linear, and the first convolution that undoes them; shifts of
the label; of the subclasses behind a class; of a background that goes with the label; and noise
inside of a network. All are pure functions of arrays and, where something is drawn, of a seed or a
key. `finetune.corruptions` has the corruptions of CIFAR-10-C.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Num, PRNGKeyArray

PyTree = Any
Labels = Integer[Array | np.ndarray, " n"]
Groups = tuple[tuple[int, ...], ...]  # of classes, one group for each superclass


class Subpopulations(NamedTuple):
    """Superclasses of which source and target have other members.

    Attributes:
        source: Classes of every superclass in the source.
        target: Classes of every superclass in the target, none of them in the source.
    """

    source: Groups
    target: Groups


class Stem(NamedTuple):
    """A first convolution behind an exactly linear shift of its inputs.

    Attributes:
        kernel: Its weights.
        bias: Added to every output.
        padding: Value of every channel beyond the border.
    """

    kernel: Float[Array, "k k c_in c_out"]
    bias: Float[Array, " c_out"]
    padding: Float[Array, " c_in"]


# airplane | ship, automobile | truck, cat | dog, deer | horse, bird | frog
CIFAR10_PAIRS = Subpopulations(((0,), (1,), (3,), (4,), (2,)), ((8,), (9,), (5,), (7,), (6,)))
# light tops {T-shirt | shirt}, warm ones {pullover | coat}, long {trouser | dress}, shoes {sandal |
# sneaker}
FASHION_GROUPS = Subpopulations(((0,), (2,), (1,), (5,)), ((6,), (4,), (3,), (7,)))


def flipped_labels(labels: Labels, num_classes: int) -> Labels:
    """Returns K - 1 - y of every label y; twice it is the identity.

    Source: Lee et al. (2023), CIFAR-Flip.

    Raises:
        ValueError: If a label is no class.
    """
    check_labels(labels, num_classes)
    return num_classes - 1 - labels


def check_labels(labels: Any, num_classes: int) -> None:
    """Checks that labels are classes 0 to K - 1; those of a traced program are not looked at.

    Raises:
        ValueError: Naming the first one that is not.
    """
    if isinstance(labels, jax.core.Tracer):
        return
    host = np.asarray(labels)
    wrong = np.flatnonzero((host < 0) | (host >= num_classes))
    if wrong.size:
        place = int(wrong[0])
        raise ValueError(
            f"labels[{place}]={host[place]}: expected a class from 0 to {num_classes - 1}"
        )


def linear_colors(
    images: Float[Array | np.ndarray, "*batch h w c"], matrix: Any, offset: Any
) -> Float[Array, "*batch h w c"]:
    """Returns x A + b of the channels of every pixel, without clipping.

    Source: Lee et al. (2023), Prop. 1: an invertible linear shift of the input, here of colors.

    Args:
        images: Any floats.
        matrix: A of [c, c], behind a row of channels.
        offset: b of [c].

    Raises:
        ValueError: If sizes do not agree or the matrix has no inverse.
    """
    _check_colors(images.shape[-1], matrix, offset)
    shift = jnp.asarray(offset, images.dtype)
    return jnp.einsum("...c,cd->...d", images, jnp.asarray(matrix, images.dtype)) + shift.reshape(
        *(1,) * (images.ndim - 1), -1
    )


def oracle_stem(kernel: Float[Array, "k k c_in c_out"], matrix: Any, offset: Any = 0.0) -> Stem:
    """Returns the first convolution that sees x A + b as `kernel` sees x, zeros around x.

    Its kernel is A^-1 times the old one, its bias what b would have added, and it is padded with
    b, the image of zero, so that borders agree as well.

    Source: Lee et al. (2023), Prop. 1: some first layer undoes the shift exactly.

    Raises:
        ValueError: If sizes do not agree or the matrix has no inverse.
    """
    channels = kernel.shape[2]
    offset = np.broadcast_to(np.asarray(offset, np.float64), (channels,))
    _check_colors(channels, matrix, offset)
    inverse = np.linalg.inv(np.asarray(matrix, np.float64))
    as_before = lambda x: jnp.asarray(x, kernel.dtype)
    undone = jnp.einsum("cd,hwdo->hwco", as_before(inverse), kernel)
    bias = -jnp.einsum("c,hwco->o", as_before(offset), undone)
    return Stem(undone, bias, as_before(offset))


def apply_stem(
    stem: Stem, images: Float[Array, "n h w c_in"], *, stride: int = 1, margin: int = 1
) -> Float[Array, "n h_out w_out c_out"]:
    """Returns the outputs of a stem whose inputs are continued by its own padding value."""
    n, h, w, c = images.shape
    value = stem.padding.reshape(1, 1, 1, c)
    around = jnp.broadcast_to(value, (n, h + 2 * margin, w + 2 * margin, c))
    padded = jax.lax.dynamic_update_slice(around, images, (0, margin, margin, 0))
    order = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(
        padded, stem.kernel, (stride, stride), "VALID", dimension_numbers=order
    )
    return out + stem.bias.reshape(1, 1, 1, -1)


def _check_colors(channels: int, matrix: Any, offset: Any) -> None:
    shape = np.shape(matrix)
    if shape != (channels, channels) or np.shape(offset) != (channels,):
        raise ValueError(
            f"matrix of shape {shape}, offset of shape {np.shape(offset)}: expected "
            f"{(channels, channels)} and {(channels,)} for images of {channels} channels"
        )
    if isinstance(matrix, jax.core.Tracer):
        return
    condition = float(np.linalg.cond(np.asarray(matrix, np.float64)))
    if not condition < 1e6:
        raise ValueError(
            f"matrix has condition number {condition:.3g}: expected an invertible one, below 1e6"
        )


def superclasses(
    labels: Integer[np.ndarray, " n"], groups: Groups
) -> tuple[Integer[np.ndarray, " m"], Integer[np.ndarray, " m"]]:
    """Returns which examples are of a group, and the number of the group of each of them.

    Source: Lee et al. (2023), Living-17 and Entity-30, by the construction of BREEDS (Santurkar et
    al. 2021): a label names a superclass, whose subclasses differ between source and target.

    Raises:
        ValueError: If a class is in two groups, or a group has no example.
    """
    members = [member for group in groups for member in group]
    if len(set(members)) < len(members):
        raise ValueError(f"groups={groups}: expected every class at most once")
    of_class = {member: number for number, group in enumerate(groups) for member in group}
    labels = np.asarray(labels)
    index = np.flatnonzero(np.isin(labels, members))
    found = np.asarray([of_class[int(label)] for label in labels[index]], np.int32)
    missing = sorted(set(range(len(groups))) - set(found.tolist()))
    if missing:
        raise ValueError(f"groups={groups}: no example of group {missing[0]}")
    return index, found


def halves(subclasses: Mapping[int, Sequence[Any]], seed: int) -> tuple[set[Any], set[Any]]:
    """Returns the subclasses of the source and those of the target, half of every class each.

    Source: Lee et al. (2023), Living-17 and Entity-30, by the construction of BREEDS (Santurkar et
    al. 2021), where halves are drawn at random. Of an odd number the source has one more.

    Args:
        subclasses: Those of every class.
        seed: Of the draw.

    Raises:
        ValueError: If a class has fewer than two subclasses.
    """
    random, source, target = np.random.default_rng(seed), set(), set()
    for label, names in sorted(subclasses.items()):
        ordered = sorted(set(names))
        if len(ordered) < 2:
            raise ValueError(f"class {label} has subclasses {ordered}: expected at least 2")
        order = random.permutation(len(ordered))
        first = (len(ordered) + 1) // 2
        source |= {ordered[place] for place in order[:first]}
        target |= {ordered[place] for place in order[first:]}
    return source, target


def categories(filenames: Sequence[bytes | str]) -> list[str]:
    """Returns the finer categories that file names of CIFAR-10 say.

    Of "domestic_cat_s_000907.png" it is "domestic_cat".

    Raises:
        ValueError: Naming the first one of another form.
    """
    found = []
    for name in filenames:
        text = name.decode() if isinstance(name, bytes) else str(name)
        match = re.fullmatch(r"(.+)_s_\d+\.png", text)
        if match is None:
            raise ValueError(f"file name {text!r}: expected CATEGORY_s_NUMBER.png")
        found.append(match[1])
    return found


def is_of_source(
    filenames: Sequence[bytes | str], labels: Integer[np.ndarray, " n"], seed: int
) -> Bool[np.ndarray, " n"]:
    """Returns which images are of the finer categories that the source has; the rest is target.

    Source: Lee et al. (2023), subpopulation shifts, of real categories inside the ten classes.
    """
    names = categories(filenames)
    by_class: dict[int, list[str]] = {}
    for name, label in zip(names, np.asarray(labels).tolist(), strict=True):
        by_class.setdefault(label, []).append(f"{label}/{name}")
    source, _ = halves(by_class, seed)
    pairs = zip(np.asarray(labels).tolist(), names, strict=True)
    return np.asarray([f"{label}/{name}" in source for label, name in pairs])


def paired(
    clean: Num[np.ndarray, "n h w *c"], shifted: Num[np.ndarray, "m h w *c"], most: float = 60.0
) -> Num[np.ndarray, "n h w *c"]:
    """Returns the shifted copies of the first n images, after a look at whether they are pairs.

    For a real shift that somebody else made, such as JPEG copies of the images of a set.

    Args:
        clean: Images from 0 to 255.
        shifted: Copies in the same order, perhaps of more images.
        most: Mean absolute difference of one image that two of a pair have at most.

    Raises:
        ValueError: Naming the first image whose copy is another picture, or of another shape.
    """
    if clean.shape[1:] != shifted.shape[1:] or len(shifted) < len(clean):
        raise ValueError(
            f"{len(shifted)} copies of shape {shifted.shape[1:]} for {len(clean)} images of shape "
            f"{clean.shape[1:]}: expected a copy of every image, of its shape"
        )
    copies = shifted[: len(clean)]
    difference = np.abs(copies.astype(np.float32) - clean.astype(np.float32))
    far = np.flatnonzero(difference.reshape(len(clean), -1).mean(1) > most)
    if far.size:
        raise ValueError(
            f"image {far[0]} and its copy differ by more than {most} of 255 on average"
        )
    return copies


def spurious_attributes(
    labels: Integer[np.ndarray, " n"], *, num_classes: int, agreement: float, seed: int
) -> Integer[np.ndarray, " n"]:
    """Returns an attribute of every example that is its label in a given share of every class.

    The share is met by count, up to one example a class; the others have another value each, drawn
    evenly. With agreement 1 / K attribute and label are independent.

    Source: Lee et al. (2023), Waterbirds and CelebA; Sagawa et al. (2020), group DRO, for the
    construction: agreement 0.95 in the source, 0.5 of two classes in the target.

    Raises:
        ValueError: If the share is none, or a label is no class.
    """
    if not 0 <= agreement <= 1:
        raise ValueError(f"agreement={agreement}: expected a share from 0 to 1")
    check_labels(labels, num_classes)
    random = np.random.default_rng(seed)
    found = np.array(labels, np.int32)
    for label in range(num_classes):
        places = random.permutation(np.flatnonzero(np.asarray(labels) == label))
        others = places[round(agreement * len(places)) :]
        steps = 1 + np.arange(len(others)) % (num_classes - 1)
        found[others] = (label + steps) % num_classes
    return found


def background(
    images: Float[np.ndarray, "n h w"],
    attributes: Integer[np.ndarray, " n"],
    *,
    strength: float,
    seed: int,
    frequency: float = 0.25,
    values: int = 2,
) -> Float[np.ndarray, "n h w"]:
    """Returns images of 0 to 1 whose dark background has stripes in the direction of an attribute.

    Stripes of attribute a of K run at the angle pi a / K, with a phase of their own in every image.
    An object is what is bright: stripes are weighed by 1 - x, so that what the object looks like
    can be read as before while the background says the attribute.

    Args:
        images: Objects before a background of 0.
        attributes: From 0 to `values` - 1.
        strength: Brightness of the stripes, 0 to 1.
        seed: Of the phases.
        frequency: Stripes a pixel.
        values: K, how many attributes there are.
    """
    check_labels(attributes, values)
    n, height, width = images.shape
    random = np.random.default_rng(seed)
    phase = random.uniform(0, 2 * np.pi, (n, 1, 1))
    angle = (np.pi * np.asarray(attributes) / values).reshape(n, 1, 1)
    rows, columns = np.mgrid[:height, :width]
    along = np.cos(angle) * rows[None] + np.sin(angle) * columns[None]
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * frequency * along + phase)
    return (images + strength * stripes * (1 - images)).astype(np.float32)


def worst_group(
    is_right: Num[np.ndarray, " n"],
    labels: Num[np.ndarray, " n"],
    attributes: Num[np.ndarray, " n"],
) -> float:
    """Returns the lowest accuracy of a group of examples of one label and one attribute.

    Source: Lee et al. (2023), Waterbirds and CelebA; Sagawa et al. (2020), group DRO.
    """
    groups = np.stack([labels, attributes], axis=1)
    rates = [
        np.mean(is_right[(groups == group[None]).all(1)]) for group in np.unique(groups, axis=0)
    ]
    return float(min(rates))


def noisy_weights(
    params: PyTree, is_block: PyTree, sigma: float | Array, key: PRNGKeyArray
) -> PyTree:
    """Returns parameters with noise in one block, in units of the size of every tensor.

    Every tensor w of the block becomes w + sigma rms(w) N(0, 1); one that is 0 stays 0.

    Source: Lee et al. (2023), noise put into one block of the network, for weights.

    Args:
        params: A tree of arrays.
        is_block: A tree of the same shape of bools: what is in the block.
        sigma: Of the noise, in root mean squares of a tensor.
        key: Of the draw.

    Raises:
        ValueError: If nothing is in the block.
    """
    leaves, structure = jax.tree.flatten(params)
    chosen = structure.flatten_up_to(is_block)
    if not any(chosen):
        raise ValueError("is_block chooses no parameter: expected at least one True")
    keys = jax.random.split(key, len(leaves))
    noisy = [
        w + sigma * jnp.sqrt(jnp.mean(w**2)) * jax.random.normal(k, w.shape, w.dtype) if yes else w
        for w, yes, k in zip(leaves, chosen, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def noisy_activations(x: Float[Array, "*shape"], sigma: float | Array, key: PRNGKeyArray) -> Array:
    """Returns inputs of a block with noise of their own size: x + sigma rms(x) N(0, 1).

    Source: Lee et al. (2023), noise put into the input of one block of the network.
    """
    return x + sigma * jnp.sqrt(jnp.mean(x**2)) * jax.random.normal(key, x.shape, x.dtype)
