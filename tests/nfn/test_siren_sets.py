"""Sets of SIRENs: which images they are of, and what they share with larger sets."""

from typing import Any

import numpy as np
import pytest

from common.data.cache import cached, cached_parts
from common.data.images import ImageSet, downsample, load_images
from common.errors import DataError
from nfn import siren_sets
from nfn.siren import render
from nfn.siren_sets import TEST, TRAIN, VALID, SirenSetSpec, siren_set, stacked_params

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return load_images("fashion_mnist", "embedded")


@pytest.fixture(scope="module")
def spec(images: ImageSet) -> SirenSetSpec:
    return SirenSetSpec(
        image_set="fashion_mnist",
        source="embedded",
        sha256=images.sha256,
        classes=(1, 8),
        train_per_class=3,
        valid_per_class=2,
        test_per_class=1,
        size=14,
        widths=(2, 16, 16, 1),
        omega=10.0,
        steps=60,
        learning_rate=1e-2,
        copies=2,
        chunk=8,
    )


@pytest.fixture(scope="module")
def arrays(spec: SirenSetSpec) -> Arrays:
    return cached(spec, siren_set)


def test_every_split_has_the_images_asked_for(arrays: Arrays, images: ImageSet) -> None:
    split, index = arrays["split"], arrays["image_index"]
    train, valid = index[split == TRAIN], index[split == VALID]

    assert (len(train), len(valid), np.sum(split == TEST)) == (2 * 2 * 3, 2 * 2, 2)
    assert not set(train) & set(valid)
    np.testing.assert_array_equal(np.unique(train, return_counts=True)[1], 2)  # copies of each
    stored = np.where(split == TEST, images.test_labels[index % 1_000], images.train_labels[index])
    np.testing.assert_array_equal(
        np.array([1, 8])[arrays["label"]][split != TEST], stored[split != TEST]
    )
    for part in (TRAIN, VALID, TEST):
        counts = np.bincount(arrays["label"][split == part])
        assert len(counts) == 2 and counts[0] == counts[1]


def test_the_networks_show_their_images(arrays: Arrays, images: ImageSet) -> None:
    shown = render(stacked_params(arrays), 14, omega=10.0)
    is_test, index = arrays["split"] == TEST, arrays["image_index"]
    pixels = np.where(
        is_test[:, None, None],
        images.test_images[np.where(is_test, index, 0)],
        images.train_images[np.where(is_test, 0, index)],
    )

    mse = np.mean((shown - downsample(pixels, 14) / 255) ** 2, axis=(1, 2))
    # Clipping to [0, 1] can only help, the rest is the difference of two sines.
    assert (-10 * np.log10(mse) > arrays["psnr"] - 0.05).all()
    assert arrays["psnr"].mean() > 22


def test_more_copies_extend_a_set(spec: SirenSetSpec, arrays: Arrays) -> None:
    fewer = cached(spec._replace(copies=1), siren_set)

    for name, values in fewer.items():
        np.testing.assert_array_equal(values, arrays[name][: len(values)], err_msg=name)
    assert len(fewer["label"]) == len(arrays["label"]) - 2 * 3
    first, second = arrays["dense_1/kernel"][-12:].reshape(2, 6, -1)
    assert np.abs(first - second).max(axis=1).min() > 0.01  # each copy is a fit of its own


def test_a_set_made_in_pieces_is_the_same(
    spec: SirenSetSpec, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = []

    def recorded(found: list[siren_sets.SirenPiece], make: Any) -> list[Arrays]:
        pieces.extend(found)
        return cached_parts(found, make)

    monkeypatch.setattr(siren_sets, "cached_parts", recorded)
    monkeypatch.setattr(siren_sets, "PIECE", spec.chunk + 1)  # pieces of whole chunks: of one
    in_pieces = siren_set(spec)

    # Every network keeps its place in its chunk, where a vectorized loop may round otherwise.
    assert [piece.start for piece in pieces] == list(range(0, len(arrays["psnr"]), spec.chunk))
    assert in_pieces.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(in_pieces[name], values, err_msg=name)


def test_other_images_than_the_specs_are_refused(spec: SirenSetSpec) -> None:
    with pytest.raises(DataError, match="wanted 000000"):
        siren_set(spec._replace(sha256="0" * 64))
