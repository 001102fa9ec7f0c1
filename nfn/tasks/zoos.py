"""Zoos as pytrees ready for the devices: which networks are for training, and their accuracies."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common.data.images import load_images
from common.errors import DataError
from common.fingerprint import data_digest
from nfn import features
from nfn.tasks.sirens import STATISTICS_ROWS, Statistics
from nfn.weights import WeightSpace
from nfn.zoo_files import published_split, read_zoo_files
from nfn.zoo_networks import network_space
from nfn.zoo_recipes import Recipe
from nfn.zoo_sets import ZooSpec, zoo, zoo_identity, zoo_params, zoo_sha256

PyTree = Any
TEST_SEED = 0  # of the split: never that of a run, so that all runs share test and validation
SPLIT_SALT = 1


def zoo_space(section: ConfigDict) -> WeightSpace:
    """Returns the weight space of a network of the zoo, all neurons permutable."""
    return network_space(channels=section.channels, dense=_dense(section))


def zoo_spec(section: ConfigDict, *, sha256: str = "") -> ZooSpec:
    """Returns the spec of the zoo of `config.data`; `sha256` is that of the images."""
    recipe = Recipe(
        channels=tuple(section.channels),
        dense=_dense(section),
        steps=section.zoo_steps,
        batch_size=section.zoo_batch_size,
        learning_rate=tuple(section.learning_rate),
        l2=tuple(section.l2),
        init_scale=tuple(section.init_scale),
        dropout=tuple(section.dropout),
        fractions=tuple(section.fractions),
        activations=tuple(section.activations),
        optimizers=tuple(section.optimizers),
        snapshots=section.snapshots,
    )
    return ZooSpec(
        image_set=section.name,
        source=section.source,
        sha256=sha256,
        size=section.size,
        count=section.runs,
        recipe=recipe,
        piece=section.piece,
        seed=section.zoo_seed,
    )


def num_examples(section: ConfigDict) -> dict[str, int]:
    """Returns the number of networks for training, validation and test."""
    runs = {part: section[f"{part}_runs"] for part in ("train", "valid", "test")}
    return {part: count * section.snapshots for part, count in runs.items()}


def zoo_data(section: ConfigDict, statistics: Statistics, *, seed: int) -> PyTree:
    """Returns {"train" | "valid" | "test": {"params": [n, ...], "accuracy": [n]}, "statistics"}.

    The zoo is trained once and kept in the cache, or read from the published files. Trainings,
    not snapshots, are split; of the training ones `seed` chooses `train_runs`, more of them
    hold the fewer ones.

    Raises:
        DataError: If the published files hold too few networks.
    """
    arrays = _arrays(section)
    rows = _rows(section, seed, count=len(arrays["test_accuracy"]))
    params = zoo_params(arrays)
    data: dict[str, Any] = {}
    for part, runs in rows.items():
        snapshots = np.arange(section.snapshots)
        chosen = (runs[:, None] * section.snapshots + snapshots).reshape(-1)
        data[part] = {
            "params": jax.tree.map(lambda leaf: leaf[chosen], params),  # noqa: B023
            "accuracy": arrays["test_accuracy"][chosen],
        }
        features.check_finite(zoo_space(section), data[part]["params"])
    first = jax.tree.map(lambda leaf: leaf[:STATISTICS_ROWS], data["train"]["params"])
    return {**data, "statistics": jax.tree.map(np.asarray, statistics(first))}


def abstract_zoo_data(section: ConfigDict, statistics: Statistics) -> PyTree:
    """Returns the shapes of `zoo_data` without training anything."""
    space = zoo_space(section)

    def part(count: int) -> PyTree:
        shapes = {
            spec.path: jax.ShapeDtypeStruct((count, *spec.shape), jnp.float32)
            for spec in space.tensors
        }
        return {"params": zoo_params(shapes), "accuracy": jax.ShapeDtypeStruct((count,), "float32")}

    parts = {name: part(count) for name, count in num_examples(section).items()}
    return {**parts, "statistics": jax.eval_shape(statistics, part(2)["params"])}


def identity(section: ConfigDict) -> dict[str, Any]:
    """Returns what the zoo is made of, the SHA-256 of its images or files included."""
    if section.files:
        return {"zoo": "Small CNN Zoo", "sha256": data_digest(_arrays(section))}
    images = load_images(section.name, section.source)
    return zoo_identity(zoo_spec(section, sha256=images.sha256))


def describe(section: ConfigDict) -> dict[str, Any]:
    """Returns which zoo was used and how accurate its networks are."""
    arrays = _arrays(section)
    quantiles = np.quantile(arrays["test_accuracy"], [0, 0.25, 0.5, 0.75, 1])
    facts: dict[str, Any] = {
        "networks": len(arrays["test_accuracy"]),
        "split": num_examples(section),
        "accuracy_quartiles": [round(float(q), 3) for q in quantiles],
    }
    if section.files:
        return {"zoo": "Small CNN Zoo", **facts}
    images = load_images(section.name, section.source)
    return {
        "images": images.name,
        "images_from": images.source,
        "images_sha256": images.sha256,
        "zoo_sha256": zoo_sha256(zoo_spec(section, sha256=images.sha256)),
        "drawn_again_because_diverged": int(np.sum(arrays["attempts"] > 1)) // section.snapshots,
        **facts,
    }


def _dense(section: ConfigDict) -> tuple[int, ...]:
    return (*[section.hidden_width] * section.hidden_layers, section.classes)


def _arrays(section: ConfigDict) -> dict[str, np.ndarray]:
    if section.files:
        return read_zoo_files(section.files)
    sha256 = load_images(section.name, section.source).sha256
    return zoo(zoo_spec(section, sha256=sha256))


def _rows(section: ConfigDict, seed: int, *, count: int) -> dict[str, np.ndarray]:
    """Returns the trainings of each part; test and validation are the same for every seed.

    `count` is the number of networks in the published files; other zoos have `config.data.runs`.
    """
    wanted = {part: section[f"{part}_runs"] for part in ("train", "valid", "test")}
    if section.files:
        split = published_split(count)
    else:
        order = np.random.default_rng((TEST_SEED, SPLIT_SALT)).permutation(section.runs)
        ends = np.cumsum([wanted["test"], wanted["valid"]])
        split = dict(zip(("test", "valid", "train"), np.split(order, ends), strict=True))
    for part, runs in wanted.items():
        if len(split[part]) < runs:
            raise DataError(
                f"config.data.{part}_runs={runs}: the zoo has {len(split[part])} for that"
            )
    split["train"] = np.random.default_rng((seed, SPLIT_SALT)).permutation(split["train"])
    return {part: split[part][:runs] for part, runs in wanted.items()}
