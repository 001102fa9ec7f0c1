"""Shifts that are no corruption: exact inverses, counts, and what is refused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune import shifts

ORDER = ("NHWC", "HWIO", "NHWC")


def test_the_flip_is_an_involution_that_refuses_other_labels() -> None:
    labels = np.asarray([0, 9, 4, 4, 7])
    np.testing.assert_array_equal(shifts.flipped_labels(labels, 10), [9, 0, 5, 5, 2])
    twice = shifts.flipped_labels(shifts.flipped_labels(labels, 10), 10)
    np.testing.assert_array_equal(twice, labels)
    with pytest.raises(ValueError, match=re.escape("labels[1]=9: expected a class from 0 to 8")):
        shifts.flipped_labels(labels, 9)
    with pytest.raises(ValueError, match=re.escape("labels[0]=-1")):
        shifts.flipped_labels(np.asarray([-1]), 9)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_oracle_stem_undoes_colors_up_to_the_border(stride: int) -> None:
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(2, 6, 6, 3)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(3, 3, 3, 4)), jnp.float32)
    matrix = np.eye(3) + 0.4 * random.normal(size=(3, 3))
    offset = random.normal(size=3)

    before = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=ORDER
    )
    stem = shifts.oracle_stem(kernel, matrix, offset)
    shifted = shifts.linear_colors(images, matrix, offset)
    after = shifts.apply_stem(stem, shifted, stride=stride)
    # float32 sums of 27 products of size one, times the inverse of a matrix of condition 10
    np.testing.assert_allclose(after, before, atol=2e-4)
    assert float(jnp.abs(shifted - images).max()) > 0.5


def test_colors_without_an_inverse_are_refused() -> None:
    images, zero = jnp.zeros((1, 2, 2, 3)), np.zeros(3)
    with pytest.raises(ValueError, match="invertible"):
        shifts.linear_colors(images, np.ones((3, 3)), zero)
    with pytest.raises(ValueError, match="images of 3 channels"):
        shifts.linear_colors(images, np.eye(2), zero)


def test_superclasses_have_other_members_in_the_target() -> None:
    labels = np.arange(10).repeat(3)
    for groups in (shifts.CIFAR10_PAIRS, shifts.FASHION_GROUPS):
        source, target = (shifts.superclasses(labels, part) for part in groups)
        assert not set(source[0]) & set(target[0])
        assert set(source[1]) == set(target[1]) == set(range(len(groups.source)))
        for (index, found), part in zip((source, target), groups, strict=True):
            for place, number in zip(index, found, strict=True):
                assert labels[place] in part[number]
    with pytest.raises(ValueError, match="no example of group 1"):
        shifts.superclasses(np.zeros(4, int), ((0,), (1,)))
    with pytest.raises(ValueError, match="at most once"):
        shifts.superclasses(labels, ((0, 1), (1,)))


def test_halves_divide_every_class_and_depend_on_the_seed() -> None:
    subclasses = {0: list("abcde"), 1: list("wxyz")}
    found = [shifts.halves(subclasses, seed) for seed in range(4)]
    for source, target in found:
        assert source | target == set("abcdewxyz")
        assert not source & target
        assert (len(source & set("abcde")), len(source & set("wxyz"))) == (3, 2)
    assert len({frozenset(source) for source, _ in found}) > 1
    with pytest.raises(ValueError, match="class 0 has subclasses"):
        shifts.halves({0: ["a"]}, 0)


def test_finer_categories_are_read_from_file_names() -> None:
    names = [f"{name}_s_{i:06}.png".encode() for i, name in enumerate(["tabby_cat", "puss"] * 3)]
    labels = np.full(6, 3)
    assert shifts.categories(names)[:2] == ["tabby_cat", "puss"]
    is_source = shifts.is_of_source(names, labels, 0)
    assert is_source.tolist() in ([True, False] * 3, [False, True] * 3)
    with pytest.raises(ValueError, match=re.escape("CATEGORY_s_NUMBER.png")):
        shifts.categories(["cat.png"])


def test_pairs_are_looked_at() -> None:
    random = np.random.default_rng(0)
    clean = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    copies = np.clip(clean.astype(int) + random.integers(-9, 10, clean.shape), 0, 255)
    more = np.concatenate([copies, copies]).astype(np.uint8)
    np.testing.assert_array_equal(shifts.paired(clean, more), copies)
    with pytest.raises(ValueError, match="image 0 and its copy"):
        shifts.paired(clean, more[1:])
    with pytest.raises(ValueError, match="a copy of every image"):
        shifts.paired(clean, more[:3])


def test_attributes_go_with_the_label_by_count() -> None:
    labels = np.arange(3).repeat(40)
    found = shifts.spurious_attributes(labels, num_classes=3, agreement=0.9, seed=0)
    for label in range(3):
        counts = np.bincount(found[labels == label], minlength=3)
        assert counts.tolist() == [36 if other == label else 2 for other in range(3)]
    other = shifts.spurious_attributes(labels, num_classes=3, agreement=0.9, seed=1)
    assert (found != other).any()
    with pytest.raises(ValueError, match="agreement=1.5"):
        shifts.spurious_attributes(labels, num_classes=3, agreement=1.5, seed=0)


def test_stripes_say_the_attribute_and_leave_the_object() -> None:
    objects = np.zeros((4, 12, 12))
    objects[:, 4:8, 4:8] = 1
    images = shifts.background(objects, np.asarray([0, 1, 0, 1]), strength=0.5, seed=0)
    np.testing.assert_allclose(images[:, 4:8, 4:8], 1)
    around = np.where(objects > 0, 0, images)
    assert 0.4 < around.max() <= 0.5
    # Attribute 0 changes from row to row only, attribute 1 from column to column.
    assert np.ptp(images[0, :, 0]) > 0.3 > np.ptp(images[0, 0]) == 0
    assert np.ptp(images[1, 0]) > 0.3 > np.ptp(images[1, :, 0]) == 0
    with pytest.raises(ValueError, match=re.escape("labels[0]=2")):
        shifts.background(objects, np.full(4, 2), strength=0.5, seed=0)


def test_the_worst_group_is_the_lowest_rate() -> None:
    right = np.asarray([1, 1, 1, 0, 0, 0, 1, 1])
    labels, attributes = np.asarray([0, 0, 0, 0, 1, 1, 1, 1]), np.asarray([0, 0, 1, 1, 0, 0, 1, 1])
    assert shifts.worst_group(right, labels, attributes) == 0
    assert shifts.worst_group(right[:4], labels[:4], attributes[:4]) == 0.5


def test_noise_is_in_one_block_and_of_its_size() -> None:
    random = np.random.default_rng(0)
    params = {"a": 3 * random.normal(size=(200, 50)), "b": random.normal(size=20), "c": np.zeros(4)}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    chosen = {"a": True, "b": False, "c": True}
    noisy = shifts.noisy_weights(params, chosen, 0.5, jax.random.key(0))

    np.testing.assert_array_equal(noisy["b"], params["b"])
    np.testing.assert_array_equal(noisy["c"], params["c"])
    size = float(jnp.std(noisy["a"] - params["a"]))
    assert abs(size - 1.5) < 0.05  # sigma 0.5 of rms 3; 10,000 draws are within 1 %
    added = shifts.noisy_activations(params["a"], 0.1, jax.random.key(1)) - params["a"]
    assert abs(float(jnp.std(added)) - 0.3) < 0.01
    with pytest.raises(ValueError, match="chooses no parameter"):
        shifts.noisy_weights(params, dict.fromkeys("abc", False), 0.5, jax.random.key(0))
