"""The equivariant layer is every equivariant map, exactly once: four independent oracles."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nfn import features, layers
from nfn.couplings import num_constants, num_linear_parameters
from nfn.weights import (
    WeightSpace,
    cnn_space,
    hidden_only,
    mlp_space,
    residual_mlp_space,
    rnn_space,
)

# Space, then linear parameters and constants of NP and of HNP (nfn.md, Sec. 3.4, is where the
# numbers come from; here they are checked by counting orbits).
TINY = {
    "2-3-2": (mlp_space([2, 3, 2]), (32, 4), (74, 7)),
    "2-3-3-2": (mlp_space([2, 3, 3, 2]), (62, 6), (114, 9)),
    "2-2-3-2-2": (mlp_space([2, 2, 3, 2, 2]), (100, 8), (164, 11)),
    "3-2-2-1": (mlp_space([3, 2, 2, 1]), (57, 6), (99, 8)),
    "conv 1-3-2": (cnn_space(channels=(1, 3, 2), filters=((1, 2), (1, 1))), (46, 5), (74, 7)),
    # Groups on two axes: no group smaller than 4, see `num_linear_parameters`.
    "rnn 2-4-2": (rnn_space([2, 4, 2]), (81, 6), (147, 9)),
    "residual 2-3-2": (
        residual_mlp_space(inputs=2, width=3, inner=2, blocks=1, outputs=2),
        (120, 8),
        (198, 11),
    ),
    "square residual 2-4-1": (
        residual_mlp_space(inputs=2, width=4, blocks=1, outputs=1),
        (102, 7),
        (130, 8),
    ),
}
LARGE = {
    "SIREN 2-32-32-1": (mlp_space([2, 32, 32, 1]), (57, 6), (75, 7)),
    "SIREN 2-32-32-3": (mlp_space([2, 32, 32, 3]), (62, 6), (163, 11)),
    "CNN zoo": (
        cnn_space(channels=(1, 16, 16, 16), filters=((3, 3),) * 3, dense=(10,)),
        (2034, 32),
        (3784, 50),
    ),
    "784-128-128-10": (mlp_space([784, 128, 128, 10]), (62, 6), (1_269_190, 807)),
}
# By default a chain, filters, and groups on two axes, these in one kind of layer; the rest is slow.
DEFAULT = ("3-2-2-1", "conv 1-3-2")
TWO_AXES = "np rnn 2-4-2"
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name not in DEFAULT)) for name in TINY]
CASES = [
    pytest.param(
        space if kind == "np" else hidden_only(space),
        counts,
        id=f"{kind} {name}",
        marks=[pytest.mark.slow] * (name not in DEFAULT and f"{kind} {name}" != TWO_AXES),
    )
    for name, (space, *both) in TINY.items()
    for kind, counts in zip(("np", "hnp"), both, strict=True)
]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def parameters_of_layer(
    layer: str, space: WeightSpace
) -> tuple[layers.LinearParams, Callable[..., features.Features]]:
    """Returns zeros in the place of the layer's parameters, and the layer."""
    init, apply = {
        "linear": (layers.init_equivariant_linear, layers.equivariant_linear),
        "pointwise": (layers.init_pointwise, layers.pointwise),
    }[layer]
    shapes = jax.eval_shape(lambda key: init(key, space=space, c_in=1, c_out=1), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape)), shapes), apply


@cache
def maps_of_parameters(layer: str, space: WeightSpace) -> tuple[np.ndarray, np.ndarray]:
    """Returns [num_matrix_entries, dim, dim] and [num_biases, dim]: one parameter 1, others 0."""
    zeros, apply = parameters_of_layer(layer, space)
    dim = space.size
    flat_matrices, unravel_matrices = ravel_pytree(zeros.matrices)
    flat_biases, unravel_biases = ravel_pytree(zeros.biases)

    def image(matrices: jax.Array, biases: jax.Array, vectors: jax.Array) -> jax.Array:
        params = layers.LinearParams(unravel_matrices(matrices), unravel_biases(biases))
        x = features.features_from_vector(space, vectors)
        return features.vector_from_features(space, apply(params, x, space=space))

    @jax.jit
    def all_images() -> tuple[jax.Array, jax.Array]:
        linear = jax.vmap(image, (0, None, None))(
            jnp.eye(flat_matrices.size), flat_biases, jnp.eye(dim)
        )
        constant = jax.vmap(image, (None, 0, None))(
            flat_matrices, jnp.eye(flat_biases.size), jnp.zeros(dim)
        )
        return linear, constant

    linear, constant = all_images()
    # Row b of an image is where the unit vector b goes, so theta[a, b] is its transpose.
    return np.asarray(linear).transpose(0, 2, 1), np.asarray(constant)


def rank(rows: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(rows.reshape(len(rows), -1), tol=1e-9))


def weight_names(space: WeightSpace) -> list[tuple[str, tuple[int, ...]]]:
    """Lists (path, index) of all weights in the order of `vector_from_features`."""
    return [
        (spec.path, index)
        for spec in space.tensors
        for index in itertools.product(*(range(size) for size in spec.shape))
    ]


def weight_permutation(space: WeightSpace, move: Callable[[str | None, int], int]) -> np.ndarray:
    """Returns where every weight goes if neuron i of a group goes to `move(group, i)`."""
    names = weight_names(space)
    number = {name: i for i, name in enumerate(names)}
    groups = {spec.path: spec.groups for spec in space.tensors}
    return np.array(
        [
            number[path, tuple(move(g, i) for g, i in zip(groups[path], index, strict=True))]
            for path, index in names
        ]
    )


def neurons(space: WeightSpace) -> dict[str, int]:
    return {
        group: size
        for spec in space.tensors
        for group, size in zip(spec.groups, spec.shape, strict=True)
        if group is not None
    }


def transpositions(space: WeightSpace) -> list[np.ndarray]:
    """Returns the action on the weights of neighboring swaps, which generate the whole group."""

    def swap(group: str, a: int) -> Callable[[str | None, int], int]:
        other = {a: a + 1, a + 1: a}
        return lambda g, i: other.get(i, i) if g == group else i

    sizes = neurons(space).items()
    return [weight_permutation(space, swap(g, a)) for g, size in sizes for a in range(size - 1)]


def group_elements(space: WeightSpace) -> list[np.ndarray]:
    sizes = neurons(space)

    def move(element: tuple[tuple[int, ...], ...]) -> Callable[[str | None, int], int]:
        images = dict(zip(sizes, element, strict=True))
        return lambda group, i: images[group][i] if group else i

    elements = itertools.product(*(itertools.permutations(range(n)) for n in sizes.values()))
    return [weight_permutation(space, move(element)) for element in elements]


def count_orbits(generators: list[np.ndarray], size: int) -> int:
    starts = np.tile(np.arange(size), len(generators))
    ends = np.concatenate(generators)
    graph = coo_array((np.ones(starts.size), (starts, ends)), shape=(size, size))
    return connected_components(graph, directed=False)[0]


def closed_form(space: WeightSpace) -> tuple[int, int]:
    """Returns sum_{A,B} m_A m_B prod_g Bell(axes of g) and sum_A m_A prod_g Bell(axes of g)."""
    bell = (1, 1, 2, 5, 15)
    facts = []
    for spec in space.tensors:
        axes = list(zip(spec.shape, spec.groups, strict=True))
        moved = Counter(group for size, group in axes if group is not None and size > 1)
        fixed = [size for size, group in axes if group is None or size == 1]
        facts.append((moved, math.prod(fixed)))
    pairs = [(s + t, m * n) for (s, m), (t, n) in itertools.product(facts, facts)]
    counts = [
        sum(m * math.prod(bell[count] for count in moved.values()) for moved, m in listed)
        for listed in (pairs, facts)
    ]
    return counts[0], counts[1]


def residual(maps: np.ndarray, targets: np.ndarray) -> float:
    """Returns how far the targets are from the span of the maps, relative to their size."""
    basis, targets = maps.reshape(len(maps), -1).T, targets.reshape(len(targets), -1).T
    fit = basis @ np.linalg.lstsq(basis, targets, rcond=None)[0]
    return float(np.linalg.norm(fit - targets) / np.linalg.norm(targets))


@pytest.mark.parametrize(("space", "counts"), CASES)
def test_the_rank_is_the_number_of_orbits_and_no_parameter_is_redundant(
    space: WeightSpace, counts: tuple[int, int]
) -> None:
    linear, constant = maps_of_parameters("linear", space)
    dim = space.size
    swaps = transpositions(space)
    pair_swaps = [(swap[:, None] * dim + swap).ravel() for swap in swaps] or [np.arange(dim**2)]
    orbits = count_orbits(pair_swaps, dim**2), count_orbits(swaps or [np.arange(dim)], dim)
    stored = len(linear), len(constant)
    assert (rank(linear), rank(constant)) == orbits == stored == closed_form(space) == counts
    assert (num_linear_parameters(space), num_constants(space)) == counts


@pytest.mark.parametrize("name", LARGE)
def test_larger_layers_store_as_many_parameters_as_the_closed_form(name: str) -> None:
    full, *counts = LARGE[name]
    for space, (num_linear, num_bias) in zip((full, hidden_only(full)), counts, strict=True):
        for c_in, c_out in ((1, 1), (5, 3)):
            params = jax.eval_shape(
                lambda key, space=space, c_in=c_in, c_out=c_out: layers.init_equivariant_linear(
                    key, space=space, c_in=c_in, c_out=c_out
                ),
                jax.random.key(0),
            )
            sizes = [sum(leaf.size for leaf in part.values()) for part in params]
            assert sizes == [c_in * c_out * num_linear, c_out * num_bias]
            closed = num_linear_parameters(space, c_in, c_out), num_constants(space, c_out)
            assert sizes == list(closed)
        assert closed_form(space) == (num_linear, num_bias)


@pytest.mark.parametrize(("space", "counts"), CASES)
def test_every_average_over_the_group_is_a_layer(
    space: WeightSpace, counts: tuple[int, int]
) -> None:
    """Averaging any matrix over the group projects it on the equivariant maps."""
    elements = group_elements(space)
    generator = np.random.default_rng(0)
    theta = generator.normal(size=(3, space.size, space.size))
    average = np.mean([theta[:, p[:, None], p] for p in elements], axis=0)
    linear, _ = maps_of_parameters("linear", space)
    assert residual(linear, average) < 1e-10
    assert residual(linear, theta) > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_pt_is_inside_np_and_np_inside_hnp(name: str) -> None:
    full, (num_np, _), (num_hnp, _) = TINY[name]
    pt, _ = maps_of_parameters("pointwise", full)
    np_layer, _ = maps_of_parameters("linear", full)
    hnp, _ = maps_of_parameters("linear", hidden_only(full))
    assert residual(np_layer, pt) < 1e-10
    assert residual(hnp, np_layer) < 1e-10
    assert num_np < num_hnp
    assert residual(np_layer, hnp) > 0.1
    assert residual(pt, np_layer) > 0.1


def test_the_last_hidden_bias_reaches_the_last_kernel_in_hnp() -> None:
    """Table 9 of the paper has this map, the authors' package has not."""
    space = hidden_only(mlp_space([2, 3, 3, 2]))
    names = weight_names(space)
    linear, _ = maps_of_parameters("linear", space)
    wanted = np.zeros((1, space.size, space.size))
    for neuron in range(3):
        target = names.index(("Dense_2/kernel", (neuron, 1)))
        wanted[0, target, names.index(("Dense_1/bias", (neuron,)))] = 1
    assert residual(linear, wanted) < 1e-10


@pytest.mark.parametrize("layer", ["linear", "pointwise"])
def test_layers_are_affine_so_that_unit_vectors_tell_all(layer: str) -> None:
    space = hidden_only(mlp_space([2, 3, 3, 2]))
    linear, constant = maps_of_parameters(layer, space)
    generator = np.random.default_rng(0)
    matrix_weights, bias_weights = (generator.normal(size=len(m)) for m in (linear, constant))
    vectors = generator.normal(size=(4, space.size))
    theta = np.tensordot(matrix_weights, linear, axes=1)
    expected = vectors @ theta.T + bias_weights @ constant

    params, apply = parameters_of_layer(layer, space)
    flat = np.concatenate([matrix_weights, bias_weights])
    flat_zeros, unravel = ravel_pytree(params)
    assert flat_zeros.size == flat.size
    x = features.features_from_vector(space, jnp.asarray(vectors))
    y = apply(unravel(jnp.asarray(flat)), x, space=space)
    np.testing.assert_allclose(features.vector_from_features(space, y), expected, atol=1e-12)
