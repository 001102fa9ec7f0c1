"""INR2ARRAY: invariance, the map of cells, what is drawn, exact moves, sizes, the two stages."""

import functools
import math
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.config import load_config
from common.experiment import build
from nfn.features import permute_networks
from nfn.siren import SirenParams, coordinate_grid, init_siren, siren, siren_space
from nfn.symmetry import random_sine_symmetry
from nfn.tasks import sirens
from nfn.transformer.inr2array.data import move_randomly
from nfn.transformer.inr2array.decoders import additive_decoder, separate_decoder
from nfn.transformer.inr2array.experiment import autoencoder
from nfn.transformer.inr2array.rendering import cell_groups, cell_of_pixels, render_cells
from tests.small_runs import draws_like, train

CONFIG = "nfn/transformer/configs/inr2array.py"
CLASSIFICATION = "nfn/transformer/configs/inr_classification.py"
OMEGA, SIZE = 10.0, 9
SMALL = {
    "data.classes": "(1,8)",
    "data.train_per_class": "10",
    "data.valid_per_class": "4",
    "data.test_per_class": "6",
    "data.copies": "2",
    "data.fit_steps": "20",
    "model.channels": "8",
    "model.frequencies": "4",
    "model.num_blocks": "1",
    "model.latent_width": "8",
    "model.decoder_widths": "(16,)",
    "retrieval_images": "12",
}


@functools.cache
def networks(count: int = 5, widths: tuple[int, ...] = (2, 16, 16, 1)) -> SirenParams:
    keys = jax.random.split(jax.random.key(0), count)
    return jax.jit(jax.vmap(lambda key: init_siren(key, widths=widths, omega=OMEGA)))(keys)


def count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("kind", "inputs", "probes"),
    [
        # That attention has the symmetry is in test_transformer_stack.py by default.
        pytest.param("nft", "canonical", 3, marks=pytest.mark.slow),
        ("np", "weights", 0),
    ],
)
def test_permuted_sirens_have_the_same_array(kind: str, inputs: str, probes: int) -> None:
    fields = {**SMALL, "model.inputs": inputs, "model.num_probes": str(probes)}
    config = load_config(f"{CONFIG}:cpu,kind={kind}", fields)
    encoder = autoencoder(config).encoder
    space = sirens.siren_space(sirens.siren_set_spec(config.data))
    params = draws_like(jax.eval_shape(encoder.init, jax.random.key(1)))
    read = sirens.statistics_of(encoder.read, encoder.space, normalize=True)

    @jax.jit
    def arrays(weights: SirenParams) -> jax.Array:
        moved = permute_networks(jax.random.key(2), space, weights)
        other = random_sine_symmetry(jax.random.key(3), weights, omega=OMEGA)
        rows = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), weights, moved, other)
        return encoder.apply(params, rows, read(weights)).reshape(3, 5, 4, 8)

    before, permuted, equivalent = arrays(networks())

    chex.assert_trees_all_close(permuted, before, atol=1e-5)  # sums in another order
    assert before.std() > 0.1
    change = jnp.abs(equivalent - before).max()
    # Half turns move phases by several radians: 1e-6 of rounding there grows in what follows.
    assert change < 1e-3 if inputs == "canonical" else change > 1e-2


@pytest.mark.parametrize(("size", "num_cells"), [(14, 4), (28, 16), (28, 64), (9, 9), (5, 1)])
def test_every_pixel_belongs_to_the_cell_with_the_nearest_center(size: int, num_cells: int) -> None:
    side = math.isqrt(num_cells)
    cells = cell_of_pixels(size, num_cells)

    centers = np.linspace(-1, 1, side) if side > 1 else np.zeros(1)
    x = np.linspace(-1, 1, size)
    distance = np.abs(x[:, None] - centers)
    rows, columns = np.divmod(cells.reshape(size, size), side)
    assert set(cells) == set(range(num_cells))
    np.testing.assert_array_equal(rows, columns.T)
    chosen = np.take_along_axis(distance, columns[0][:, None], axis=1)[:, 0]
    np.testing.assert_allclose(chosen, distance.min(axis=1), atol=1e-12)  # ties: either cell
    groups = cell_groups(size, num_cells)
    assert sorted(np.concatenate([g.pixels.ravel() for g in groups])) == list(range(size**2))
    assert all((cells[g.pixels] == g.cells[:, None]).all() for g in groups)


def test_no_grid_of_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="num_latents=5"):
        cell_of_pixels(14, 5)


def test_equal_sirens_in_all_cells_draw_the_picture_of_one_and_different_ones_their_own() -> None:
    size = 7  # with 9 cells the order in which pixels are drawn is not its own inverse
    weights, pixels = networks(9), coordinate_grid(size)
    first = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), weights)
    alone = jax.vmap(lambda p: siren(p, pixels, omega=OMEGA))(weights)  # [9, pixels, 1]

    render = jax.jit(functools.partial(render_cells, size=size, omega=OMEGA))
    same, mixed = render(first), render(weights)

    chex.assert_trees_all_close(same, alone[0], atol=1e-5)
    expected = np.asarray(alone)[cell_of_pixels(size, 9), np.arange(size**2)]
    chex.assert_trees_all_close(mixed, expected, atol=1e-5)


def test_a_moved_siren_draws_the_moved_picture() -> None:
    weights = jax.tree.map(lambda x: x[0], networks(1))
    draw = functools.partial(siren, coordinates=coordinate_grid(SIZE), omega=OMEGA)
    picture = draw(weights)

    @jax.jit
    def move(keys: jax.Array) -> Any:
        one = functools.partial(move_randomly, size=SIZE, max_shift=2)
        moved, wanted, inside = jax.vmap(lambda key: one(key, weights, picture))(keys)
        return jax.vmap(draw)(moved), wanted, inside

    drawn, wanted, inside = map(np.asarray, move(jax.random.split(jax.random.key(1), 12)))

    assert np.abs(np.where(inside, drawn - wanted, 0)).max() < 1e-4
    assert inside.mean(axis=(1, 2)).min() >= (7 / 9) ** 2 - 1e-6
    assert len({float(np.abs(x - picture).max()) for x in drawn}) > 6


@pytest.mark.slow  # two decoders, compiled for long
def test_decoders_start_from_a_drawn_siren() -> None:
    space = siren_space((2, 16, 16, 1))
    additive = additive_decoder(space, c_in=8, widths=(16, 16), omega=OMEGA)
    separate = separate_decoder(space, c_in=8, widths=(16, 16))
    z = jax.random.normal(jax.random.key(5), (3, 4, 8))

    @jax.jit
    def draw(z: jax.Array) -> Any:
        params = additive.init(jax.random.key(4))
        silent = params._replace(scale=jax.tree.map(jnp.zeros_like, params.scale))
        spread = separate.apply(separate.init(jax.random.key(4)), z)
        return params, additive.apply(silent, z), spread

    params, drawn, spread = draw(z)

    for layer, tensors in drawn.items():
        for name, values in tensors.items():
            np.testing.assert_array_equal(values[2, 1], params.siren[f"{layer}/{name}"])
            assert spread[layer][name].shape == values.shape
            assert np.std(spread[layer][name], axis=(0, 1)).max() < 0.05
    theta = params.siren
    deviation = np.std(theta["dense_1/kernel"], ddof=1)
    np.testing.assert_allclose(params.scale["dense_1/kernel"], deviation, rtol=1e-5)
    np.testing.assert_allclose(params.scale["dense_2/bias"], np.abs(theta["dense_2/bias"][0]))


@pytest.mark.parametrize(
    ("dataset", "encoder", "total"),
    [
        ("mnist", 21_200_640, 22_294_689),
        pytest.param("cifar10", 21_201_152, 21_655_500, marks=pytest.mark.slow),
    ],
)
def test_the_autoencoder_of_the_paper_has_its_size(dataset: str, encoder: int, total: int) -> None:
    experiment = build(load_config(f"{CONFIG}:paper,dataset={dataset}"))
    params = jax.eval_shape(lambda: experiment.init(jax.random.key(0))).params
    fixed = count(params.encoder.trunk.fourier)  # not trained, thus not counted there

    assert count(params.encoder) - fixed == encoder
    assert count(params) - fixed == total


@pytest.mark.slow
def test_the_classifier_of_the_paper_has_its_size() -> None:
    experiment = build(load_config(f"{CLASSIFICATION}:paper"))
    params = jax.eval_shape(lambda: experiment.init(jax.random.key(0))).params

    assert count(params) == 38_260_746


def test_aligned_batches_hold_all_copies_of_an_image() -> None:
    fields = {**SMALL, "task.aligned": "true", "batch_size": "8"}
    experiment = build(load_config(f"{CONFIG}:cpu,kind=np", fields))

    index = experiment.batch(3)["index"].reshape(4, 2)

    assert (index[:, 0] < 20).all() and (index[:, 1] == index[:, 0] + 20).all()


@pytest.mark.slow  # three compiled stages
def test_a_classifier_reads_the_arrays_of_a_trained_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    stage = {**SMALL, "num_steps": "20", "steps_per_call": "10", "eval_every": "20"}
    stage |= {"checkpoint_every": "0", "optimizer.warmup_steps": "0", "task.target": "image"}
    stage |= {"task.augment": "true", "task.max_shift": "1", "batch_size": "8"}
    fields = {f"encoder.{name}": value for name, value in stage.items()}
    fields |= {"num_steps": "20", "steps_per_call": "20", "eval_every": "20", "mixup": "0.2"}
    fields |= {"model.width": "16", "model.ff_width": "16", "batch_size": "8"}
    config = load_config(f"{CLASSIFICATION}:cpu,kind=np", {**fields, "checkpoint_every": "0"})

    experiment, data, state = train(config)
    assert experiment.final is not None
    assert experiment.abstract_data is not None
    metrics = experiment.final(state, data, jax.random.key(0))
    values = {name: float(total / n) for name, (total, n) in metrics.items()}

    assert jax.tree.map(jnp.shape, data) == jax.tree.map(jnp.shape, experiment.abstract_data())
    assert values["permuted_test_agreement"] == 100
    assert values["permuted_logit_change"] < 1e-5
    assert values["encoder_array_change"] < 1e-5
    assert 0 < values["encoder_test_mse"] < 1
    assert 0 <= values["encoder_retrieval"] <= 100
