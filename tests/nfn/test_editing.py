"""Editing SIRENs by their weights: what is exactly possible, symmetry, data and sizes."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from common.config import load_config
from common.data.images import downsample, load_images
from common.experiment import Experiment, build
from nfn import features, image_edits, layers, siren_edits
from nfn.equivariant.editors import EditorSpec, editor
from nfn.siren import SirenParams, coordinate_grid, init_siren, siren
from nfn.stack import stack_space
from nfn.tasks.edit_targets import EditSpec, edit_weights
from nfn.tasks.editing import edit_sirens, edit_spec
from nfn.tasks.sirens import renderings, siren_set_spec, siren_space, statistics_of
from nfn.weights import WeightSpace, hidden_only, mlp_space
from tests.small_runs import draws_like

CONFIG = "nfn/equivariant/configs/editing.py"
SMALL = {
    "data.classes": "(0, 1)",
    "data.train_per_class": "4",
    "data.valid_per_class": "2",
    "data.test_per_class": "2",
    "data.fit_steps": "20",
    "data.widths": "(2, 6, 1)",
    "model.channels": "4",
    "model.num_layers": "1",
    "model.frequencies": "3",
    "model.mlp_widths": "(8,)",
    "batch_size": "4",
    "steps_per_call": "1",
    "evaluate_chunk": "4",
}
OFFSET, ANGLE = np.array([0.3, -0.2]), 0.4
EXACT: dict[str, Callable[[SirenParams], SirenParams]] = {
    "translate": lambda params: siren_edits.translate(params, jnp.asarray(OFFSET)),
    "rotate": lambda params: siren_edits.rotate(params, ANGLE),
    "rescale": lambda params: siren_edits.rescale(params, gain=-1.5, offset=0.25),
}


def random_sirens(count: int, widths: tuple[int, ...], dtype: Any) -> SirenParams:
    keys = jax.random.split(jax.random.key(0), count)
    params = jax.jit(jax.vmap(lambda key: init_siren(key, widths=widths, omega=5.0)))(keys)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


@pytest.mark.parametrize("name", EXACT)
def test_exact_edits_of_weights_are_exact_edits_of_the_image(name: str) -> None:
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf[0], random_sirens(1, (2, 5, 4, 3), jnp.float64))
        x = coordinate_grid(5).astype(jnp.float64)
        c, s = math.cos(ANGLE), math.sin(ANGLE)
        back = x @ jnp.array([[c, -s], [s, c]])  # rows R^-1 x, with R^-1 = R^T
        moved = {"translate": x - OFFSET[None], "rotate": back, "rescale": x}[name]
        expected = jax.jit(lambda p: siren(p, moved, omega=5.0))(params)
        if name == "rescale":
            expected = -1.5 * expected + 0.25
        shown = jax.jit(lambda p: siren(EXACT[name](p), x, omega=5.0))(params)

        np.testing.assert_allclose(shown, expected, atol=1e-12)


def test_images_turn_counterclockwise_and_move_down_and_right() -> None:
    params = random_sirens(1, (2, 5, 1), jnp.float32)
    params = jax.tree.map(lambda leaf: leaf[0], params)
    network = jax.jit(lambda p: siren(p, coordinate_grid(9), omega=5.0))
    show = lambda p: np.asarray(network(p)).reshape(9, 9)
    turned = show(edit_weights(params, edit=EditSpec("rotate", (0, 0), 90.0), size=9))
    moved = show(edit_weights(params, edit=EditSpec("translate", (1, 2), 0.0), size=9))

    np.testing.assert_allclose(turned, np.rot90(show(params)), atol=1e-5)
    np.testing.assert_allclose(moved[1:, 2:], show(params)[:-1, :-2], atol=1e-5)


@cache
def layer_and_edits(kind: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Returns the outputs of a layer for 40 SIRENs by its parameters, the SIRENs, edited ones."""
    space = stack_space(mlp_space_of((2, 3, 3, 1)), kind)
    sirens = random_sirens(40, (2, 3, 3, 1), jnp.float64)
    init, apply = {
        "pt": (layers.init_pointwise, layers.pointwise),
    }.get(kind, (layers.init_equivariant_linear, layers.equivariant_linear))
    params = init(jax.random.key(1), space=space, c_in=1, c_out=1)
    flat, unravel = ravel_pytree(jax.tree.map(lambda p: p.astype(jnp.float64), params))

    def vector(sirens: SirenParams) -> jax.Array:
        return ravel_pytree(features.features_from_params(space, sirens))[0]

    @jax.jit
    def everything(flat: jax.Array, sirens: SirenParams) -> tuple[Any, ...]:
        x = features.features_from_params(space, sirens)
        output = lambda flat: ravel_pytree(apply(unravel(flat), x, space=space))[0]
        edited = {name: vector(edit(sirens)) for name, edit in EXACT.items()}
        return jax.jacfwd(output)(flat), vector(sirens), edited

    return jax.tree.map(np.asarray, everything(flat, sirens))


@pytest.mark.parametrize("kind", ["np", "hnp", pytest.param("pt", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EXACT)
def test_hnp_contains_the_exact_edits_as_linear_maps_and_np_and_pt_do_not(
    name: str, kind: str
) -> None:
    with jax.enable_x64(True):
        matrix, before, edited = layer_and_edits(kind)
    wanted = edited[name]

    solution, *_ = np.linalg.lstsq(matrix, wanted)
    error, change = np.linalg.norm(matrix @ solution - wanted), np.linalg.norm(wanted - before)
    if kind == "hnp" or name == "rescale":
        assert error < 1e-10 * change
    else:
        # Not even half of the change: which input a weight belongs to is not known.
        assert error > 0.5 * change


def mlp_space_of(widths: tuple[int, ...]) -> WeightSpace:
    """Returns `mlp_space` with the names of SIRENs."""
    space = mlp_space(widths)
    return WeightSpace(
        tuple(t._replace(path=t.path.replace("Dense", "dense")) for t in space.tensors)
    )


@pytest.mark.parametrize(
    ("kind", "canonical"),
    [
        ("hnp", False),
        pytest.param("np", True, marks=pytest.mark.slow),
        *(pytest.param(kind, False, marks=pytest.mark.slow) for kind in ("np", "pt", "mlp")),
    ],
)
def test_permuting_hidden_neurons_commutes_with_every_editor_but_the_mlp(
    kind: str, canonical: bool
) -> None:
    space = mlp_space_of((2, 6, 5, 1))
    spec = editor_sizes(kind=kind, canonical=canonical)
    network = editor(space, spec, omega=5.0)
    params = draws_like(jax.eval_shape(network.init, jax.random.key(2)))
    sirens = random_sirens(3, (2, 6, 5, 1), jnp.float32)
    order = features.random_permutation(jax.random.key(3), hidden_only(space))

    @jax.jit
    def edit_and_move(params: Any, sirens: SirenParams) -> tuple[SirenParams, ...]:
        statistics = statistics_of(network.read, network.space, normalize=True)(sirens)
        move = partial(features.permute_params, hidden_only(space), permutations=order)
        edited = network.apply(params, sirens, statistics)
        return edited, move(edited), network.apply(params, move(sirens), statistics)

    edited, moved_last, moved_first = edit_and_move(params, sirens)

    largest = largest_difference(moved_last, moved_first)
    assert largest > 1e-2 if kind == "mlp" else largest < 1e-5
    assert largest_difference(edited, sirens) > 0.1  # it does edit, and weights do move
    assert largest_difference(edited, moved_last) > 0.1


def largest_difference(a: SirenParams, b: SirenParams) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def editor_sizes(*, kind: str, canonical: bool) -> EditorSpec:
    spec = EditorSpec(**load_config(f"{CONFIG}:cpu", SMALL).model.to_dict())
    return spec._replace(kind=kind, canonical=canonical, initial_scale=1.0)


def small(edit: str, kind: str = "np") -> tuple[Any, Experiment]:
    config = load_config(f"{CONFIG}:cpu,edit={edit},kind={kind}", SMALL)
    return config, build(config)


def test_targets_are_the_edited_image_or_the_exactly_edited_network() -> None:
    config, experiment = small("dilate")
    images = load_images("fashion_mnist", "embedded")
    last = np.flatnonzero(np.isin(images.test_labels, (0, 1)))[:1]
    pixels = downsample(images.test_images[last], 14) / 255
    expected = 2 * np.asarray(image_edits.dilate(jnp.asarray(pixels))) - 1
    target = experiment.data()["test"]["target"]
    assert target.shape == (4, 196, 1)
    np.testing.assert_allclose(target[:1].reshape(1, 14, 14), expected, atol=1e-6)

    config, experiment = small("rotate")
    test = experiment.data()["test"]
    edited, untouched = shown(config, jax.tree.map(jnp.asarray, test["params"]))
    np.testing.assert_allclose(edited, test["target"], atol=1e-5)
    assert np.abs(edited - untouched).max() > 0.1


def shown(config: Any, params: SirenParams) -> tuple[jax.Array, jax.Array]:
    """Returns what networks show after the edit of a config, and before it."""
    spec = siren_set_spec(config.data)
    move = partial(edit_weights, edit=edit_spec(config), size=spec.size)

    @jax.jit
    def both(params: SirenParams) -> tuple[jax.Array, jax.Array]:
        edited = jax.vmap(lambda single: move(single))(params)
        return renderings(edited, spec), renderings(params, spec)

    return both(params)


@pytest.mark.slow
def test_an_editor_without_the_symmetry_is_seen_to_change_under_permutations() -> None:
    """It silences the first hidden neuron, whichever that is."""
    config = load_config(f"{CONFIG}:cpu,edit=contrast", SMALL)
    spec = siren_set_spec(config.data)
    network = editor(siren_space(spec), editor_sizes(kind="mlp", canonical=False), omega=spec.omega)

    def silence(params: Any, weights: SirenParams, statistics: Any, key: Any = None) -> SirenParams:
        del params, statistics, key
        after = weights["dense_1"]
        return weights | {"dense_1": after | {"kernel": after["kernel"].at[:, 0].set(0)}}

    experiment = edit_sirens(config, network._replace(apply=silence))
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    assert experiment.final is not None
    data = jax.tree.map(jnp.asarray, experiment.data())
    final = jax.jit(partial(experiment.final, draws_like(state, scale=0.0)))
    sums: dict[str, Any] = final(data, jax.random.key(2))
    measured = {name: total / n for name, (total, n) in sums.items()}

    test = data["test"]
    edited = silence(None, test["params"], None)
    expected = jnp.mean((jax.jit(renderings, static_argnums=1)(edited, spec) - test["target"]) ** 2)
    assert measured["permuted_change"] > 1e-4
    assert measured["test_mse"] == pytest.approx(float(expected), rel=1e-4)
    assert abs(measured["permuted_test_mse"] - measured["test_mse"]) > 1e-5


@pytest.mark.parametrize("kind", ["np", pytest.param("mlp_aug", marks=pytest.mark.slow)])
def test_a_fresh_editor_changes_little_and_its_first_step_is_finite(kind: str) -> None:
    _, experiment = small("contrast", kind)
    data = jax.tree.map(jnp.asarray, experiment.data())
    state = jax.jit(experiment.init)(jax.random.key(0))
    batch = experiment.batch(0)
    new_state, metrics = jax.jit(experiment.step)(state, data, batch, jax.random.key(1))
    measured = jax.jit(experiment.evaluate)(state, data, jax.random.key(2))
    edited, untouched = (float(measured[f"valid_{n}"][0]) for n in ("mse", "do_nothing_mse"))

    assert edited == pytest.approx(untouched, rel=0.2)  # gamma = 0.01
    assert np.isfinite(metrics["loss"]) and 0 < metrics["grad_norm"] < np.inf
    chex.assert_tree_all_finite(new_state)


@pytest.mark.parametrize(
    ("dataset", "kind", "count", "published"),
    [
        # Layers 256 (+ 7 of the code) -> 128 -> 128 -> 128 -> 1, then 6 gammas. The released layers
        # store redundant parameters: 62 instead of 57 matrices per pair of channels for one
        # output (NP), 98 instead of 75 and 196 instead of 163 (HNP), see nfn/layers.py.
        ("mnist", "np", 57, 4.13e6),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("mnist", "hnp", 75, 6.44e6),
                ("mnist", "pt", 6, 0.40e6),
                ("cifar10", "np", 62, 4.13e6),
            )
        ),
        ("cifar10", "hnp", 163, 12.9e6),
    ],
)
def test_the_paper_preset_has_the_papers_layers_without_redundant_parameters(
    dataset: str, kind: str, count: int, published: float
) -> None:
    config = load_config(f"{CONFIG}:paper,dataset={dataset},kind={kind}")
    state = jax.eval_shape(build(config).init, jax.random.key(0))
    stored = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    constants = {"np": 6, "hnp": 7 if dataset == "mnist" else 11, "pt": 6}[kind]
    sizes = (256 if kind == "hnp" else 263, 128, 128, 128, 1)
    pairs = sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))
    released = {57: 62, 75: 98, 163: 196}.get(count, count)

    assert stored == 128 + pairs * count + sum(sizes[1:]) * constants + 6
    # The published count, to three digits, is that of the redundant layers.
    assert pairs * released == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("dataset", "published"), [("mnist", 4.37e6), ("cifar10", 4.51e6)])
def test_the_mlp_of_the_paper_preset_has_the_papers_size(dataset: str, published: float) -> None:
    config = load_config(f"{CONFIG}:paper,dataset={dataset},kind=mlp")
    state = jax.eval_shape(build(config).init, jax.random.key(0))
    stored = sum(leaf.size for leaf in jax.tree.leaves(state.params))

    assert stored == pytest.approx(published, rel=0.002)
