"""Sets of fitted SIRENs as pytrees ready for the devices."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common.data.cache import cached
from common.data.cache import describe as describe_cached
from common.data.cache import identity as identity_of
from common.data.images import downsample, load_images
from nfn import encodings, features
from nfn.sine import resolve_sine
from nfn.siren import SirenParams, coordinate_grid, init_siren, render, siren
from nfn.siren import siren_space as space_of_widths
from nfn.siren_sets import TEST, TRAIN, VALID, SirenSetSpec, siren_set, stacked_params
from nfn.weights import WeightSpace

PyTree = Any
PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}
# Networks that statistics are taken of, the first ones: enough for means and deviations.
STATISTICS_ROWS = 4_096
Statistics = Callable[[PyTree], encodings.NormalizationStatistics]


def siren_set_spec(section: ConfigDict) -> SirenSetSpec:
    """Returns the spec of `config.data`, still without the checksum of the images.

    "auto" as sine is resolved for the devices that are here, see `nfn.sine.resolve_sine`.
    """
    return SirenSetSpec(
        image_set=section.name,
        source=section.source,
        sha256="",
        classes=tuple(section.classes),
        train_per_class=section.train_per_class,
        valid_per_class=section.valid_per_class,
        test_per_class=section.test_per_class,
        size=section.size,
        widths=tuple(section.widths),
        omega=section.omega,
        steps=section.fit_steps,
        learning_rate=section.fit_learning_rate,
        schedule=section.fit_schedule,
        copies=section.copies,
        seed=section.fit_seed,
        sine=resolve_sine(section.sine, jax.default_backend()),
        chunk=section.chunk,
    )


def num_classes(spec: SirenSetSpec) -> int:
    """Returns the number of classes."""
    return len(spec.classes)


def num_examples(spec: SirenSetSpec) -> dict[str, int]:
    """Returns the number of networks for training, validation and test."""
    per_class = {
        "train": spec.train_per_class * spec.copies,
        "valid": spec.valid_per_class,
        "test": spec.test_per_class,
    }
    return {part: count * num_classes(spec) for part, count in per_class.items()}


def siren_space(spec: SirenSetSpec) -> WeightSpace:
    """Returns the weight space of one SIREN of the set, all neurons permutable."""
    return space_of_widths(spec.widths)


def renderings(params: SirenParams, spec: SirenSetSpec) -> Float[Array, "batch pixels c"]:
    """Returns what a batch of networks shows, in the [-1, 1] scale."""
    show = partial(siren, coordinates=coordinate_grid(spec.size), omega=spec.omega, sine=spec.sine)
    return jax.vmap(show)(params)


def siren_data(spec: SirenSetSpec, statistics: Statistics) -> PyTree:
    """Returns {"train" | "valid" | "test": {"params": [n, ...], "label": [n]}, "statistics"}.

    The SIRENs are fitted once and kept in the cache.

    Args:
        spec: Which SIRENs.
        statistics: params of the training networks -> their statistics, see `statistics_of`.
    """
    arrays = cached(_with_checksum(spec), siren_set)
    data: dict[str, Any] = {part: _part(arrays, number) for part, number in PARTS.items()}
    values = statistics(data["train"]["params"])
    return {**data, "statistics": jax.tree.map(np.asarray, values)}


def abstract_siren_data(spec: SirenSetSpec, statistics: Statistics) -> PyTree:
    """Returns the shapes of `siren_data` without fitting anything."""
    single = _abstract_siren(spec)

    def part(count: int) -> PyTree:
        return {
            "params": jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), single
            ),
            "label": jax.ShapeDtypeStruct((count,), jnp.int32),
        }

    values = jax.eval_shape(statistics, part(2)["params"])
    return {**{name: part(n) for name, n in num_examples(spec).items()}, "statistics": values}


def statistics_of(
    read: Callable[[PyTree], features.Features], space: WeightSpace, *, normalize: bool
) -> Statistics:
    """Returns params -> mean and deviation of the features that a network makes of them.

    Args:
        read: params [n, ...] -> features in the layout of `space`.
        space: Weights that a permutation of this space can exchange share their statistics.
        normalize: If not, the means are 0 and the deviations 1.
    """

    def statistics(params: PyTree) -> encodings.NormalizationStatistics:
        rows = jax.tree.map(lambda leaf: leaf[:STATISTICS_ROWS], params)
        values = encodings.normalization_statistics(read(rows), space=space)
        return values if normalize else encodings.no_normalization(values)

    return jax.jit(statistics)


def identity(spec: SirenSetSpec) -> dict[str, Any]:
    """Returns what a fitted set is made of, the SHA-256 of its images included."""
    return identity_of(_with_checksum(spec), siren_set)


def describe(spec: SirenSetSpec) -> dict[str, Any]:
    """Returns which images and which fitted set were used, and how well it was fitted."""
    images = load_images(spec.image_set, spec.source)
    full = _with_checksum(spec)
    arrays = cached(full, siren_set)
    return {
        "images": images.name,
        "images_from": images.source,
        "images_sha256": images.sha256,
        "sirens": num_examples(spec),
        "sirens_sha256": describe_cached(full, siren_set)["sha256"],
        "sirens_mean_psnr_db": round(float(arrays["psnr"].mean()), 2),
    }


def examples(spec: SirenSetSpec, *, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns test images, renderings of their SIRENs (both in [0, 1]) and the mean PSNR in dB.

    The images are the first of each class in turn, `count` in all.
    """
    arrays = cached(_with_checksum(spec), siren_set)
    images = load_images(spec.image_set, spec.source)
    rows = np.flatnonzero(arrays["split"] == TEST)
    by_class = [rows[arrays["label"][rows] == label] for label in range(num_classes(spec))]
    chosen = np.array([by_class[i % len(by_class)][i // len(by_class)] for i in range(count)])
    pixels = downsample(images.test_images[arrays["image_index"][chosen]], spec.size) / 255
    params = jax.tree.map(lambda leaf: leaf[chosen], stacked_params(arrays))
    return pixels, render(params, spec.size, omega=spec.omega), float(arrays["psnr"].mean())


def _part(arrays: dict[str, np.ndarray], number: int) -> PyTree:
    chosen = arrays["split"] == number
    params = jax.tree.map(lambda leaf: leaf[chosen], stacked_params(arrays))
    return {"params": params, "label": arrays["label"][chosen]}


def _abstract_siren(spec: SirenSetSpec) -> PyTree:
    return jax.eval_shape(
        lambda: init_siren(jax.random.key(0), widths=spec.widths, omega=spec.omega)
    )


def _with_checksum(spec: SirenSetSpec) -> SirenSetSpec:
    return spec._replace(sha256=load_images(spec.image_set, spec.source).sha256)
