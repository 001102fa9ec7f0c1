"""What is measured of a trained network: ranks of its features, active units, transfer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer
from ml_collections import ConfigDict

from landscape.neighbors import linear_probe, neighbor_error
from landscape.rank import feature_rank
from landscape.units import SHARES, active_counts

PyTree = Any
Features = Callable[[Any], dict[str, Float[Array, "n d"]]]


def of_ranks(features: Float[Array, "n d"], number: int, measure: ConfigDict) -> dict[str, Any]:
    """Returns the ranks of the features at one place, under every centering.

    Source: Andriushchenko et al. (2023), released code, for "rank"; "pca" are principal components.

    Args:
        features: One row an example.
        number: Of the place, in the names that are returned.
        measure: The section `config.measure`.
    """
    found = feature_rank(features, q=measure.share, method=measure.method)
    return {
        f"rank_{number}": found.features.rank,
        f"pca_{number}": found.samples.rank,
        f"uncentered_{number}": found.none.rank,
        f"stable_{number}": found.samples.stable,
        f"entropy_{number}": found.samples.entropy,
    }


def of_units(features: Float[Array, "n d"], number: int) -> dict[str, Any]:
    """Returns how many units are on for more than 0, 1, 5 and 10 % of the examples.

    Source: Andriushchenko et al. (2023), released code.
    """
    active = active_counts(features, SHARES)
    return {
        f"active_{number}_{round(100 * share)}": count
        for share, count in zip(SHARES, active, strict=True)
    }


def of_places(
    features: Features,
    rows: PyTree,
    places: tuple[str, ...],
    behind_relu: tuple[str, ...],
    measure: ConfigDict,
) -> dict[str, Array]:
    """Returns ranks at every place, and active units where there is a ReLU before it.

    Args:
        features: images -> values by place.
        rows: Training images, not augmented; the first `measure.samples` are taken.
        places: In the order of their numbers, from 1.
        behind_relu: Some of them.
        measure: The section `config.measure`.
    """
    values = features(rows["image"][: measure.samples])
    found: dict[str, Any] = {}
    for number, place in enumerate(places, start=1):
        found |= of_ranks(values[place], number, measure)
        if place in behind_relu:
            found |= of_units(values[place], number)
            at = measure.active_share
            found[f"per_unit_{number}"] = found[f"rank_{number}"] / found[f"active_{number}_{at}"]
    return found


def of_transfer(
    features: Features,
    rows: PyTree,
    test: PyTree,
    places: dict[int, str],
    *,
    num_classes: int,
    neighbors: int,
) -> dict[str, Array]:
    """Returns what features say of classes that were not learned: two errors in percent a place.

    Source: Andriushchenko et al. (2023), released code, for the neighbours; the linear probe is
    ours.

    Args:
        features: images -> values by place.
        rows: Images and labels to look among.
        test: Those to classify.
        places: By number.
        num_classes: How many classes there are.
        neighbors: How many vote.
    """
    train_values, test_values = features(rows["image"]), features(test["image"])
    labels: tuple[Integer[Array, " n"], ...] = (rows["label"], test["label"])
    found = {}
    for number, place in places.items():
        given = (train_values[place], labels[0], test_values[place], labels[1])
        found[f"neighbors_{number}"] = neighbor_error(*given, num_classes=num_classes, k=neighbors)
        found[f"probe_{number}"] = linear_probe(*given, num_classes=num_classes).error
    return found


def as_numbers(found: dict[str, Any]) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns numbers as an evaluation gives them: each the sum of one."""
    one = jnp.float32(1)
    return {name: (jnp.asarray(value, jnp.float32), one) for name, value in found.items()}
