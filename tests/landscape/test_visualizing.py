"""The experiments of the paper: what two networks share, what surfaces are over, and refusals."""

from functools import cache
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.config import load_config
from common.data.image_sets import augmented
from common.errors import UserError
from common.evaluation import means
from common.experiment import build
from common.loop.program import count_parameters
from common.runs import Loaded
from landscape.directions import random_plane
from landscape.grids import Surface
from landscape.trajectories import path_axes
from landscape.vectors import moved
from landscape.visualizing import convexity, measures, paths
from landscape.visualizing.experiments import variables_of
from landscape.visualizing.networks import FROZEN
from tests.landscape.small_networks import drawn, shallow_networks

DEPTH, PAIR = (f"landscape/visualizing/configs/{name}.py" for name in ("depth", "batch_size"))
SMALL = {
    "data.size": "7",
    "data.num_train": "40",
    "data.num_test": "40",
    "evaluate_chunk": "40",
    "model.depth": "4",
    "model.width": "4",
    "num_steps": "2",
    "steps_per_call": "1",
    "eval_every": "0",
    "batch_size": "20",
    "optimizer.decay_at": "(0.5,)",
    "surface.planes": "2",
    "surface.points": "5",
    "surface.line_points": "5",
    "surface.images": "40",
    "surface.chunk": "20",
    "surface.products": "2",
}


def config_of(spec: str, **fields: Any) -> Any:
    more = {name.replace("__", "."): str(value) for name, value in fields.items()}
    pair = {"small_batch": "10"} if spec.startswith(PAIR) else {}
    return load_config(f"{spec}:cpu", {**SMALL, **pair, **more})


def run(config: Any) -> tuple[Any, Any, Any]:
    """Returns data, first state and last state of an experiment, its weights drawn by NumPy."""
    experiment = build(config)
    data = jax.tree.map(jnp.asarray, experiment.data())
    shapes = jax.eval_shape(experiment.init, jax.random.key(0))
    first = state = jax.tree.map(jnp.asarray, drawn(shapes))
    step = jax.jit(experiment.step)
    for number in range(config.num_steps):
        state, _ = step(state, data, experiment.batch(number), jax.random.key(number))
    return data, first, state


@cache
def run_of_pair() -> tuple[Any, Any, Any]:
    with shallow_networks():
        return run(config_of(PAIR, num_steps=1))


@pytest.fixture(scope="module")
def pair() -> measures.Trained:
    """Both networks after a step, as a run that is loaded; their own training is a slow test."""
    config = config_of(PAIR, num_steps=1)
    data, _, last = run_of_pair()
    with pytest.MonkeyPatch.context() as patch, shallow_networks():
        loaded = Loaded(config, build(config), 1, last, data)
        patch.setattr(measures.stages, "trained", lambda stage: loaded)
        return measures.trained(config)


@cache
def errors_of_pair() -> dict[str, float]:
    """Returns training losses and errors as the loop measures them."""
    data, _, last = run_of_pair()
    with shallow_networks():
        evaluate = build(config_of(PAIR, num_steps=1)).evaluate
    return means(jax.jit(evaluate)(last, data, jax.random.key(0)))


@pytest.mark.slow
def test_the_small_batch_is_trained_by_plain_steps_on_parts_of_the_large_one() -> None:
    config = config_of(PAIR, num_steps=1)
    data, first, last = run_of_pair()
    same = {
        f"optimizer__{name}": config.optimizer[name] for name in ("learning_rate", "weight_decay")
    }
    with shallow_networks():  # the rate drops halfway
        alone = build(config_of(DEPTH, batch_size=10, num_steps=2, **same))
    step, state = jax.jit(alone.step), first.small
    index = build(config).batch(0)["index"]
    for part in (index[0::2], index[1::2]):
        state, _ = step(state, data, {"index": part}, jax.random.key(0))

    # float32 in another order of operations, behind the small variances of ten rows
    chex.assert_trees_all_close(last.small, state, rtol=1e-4, atol=1e-5)
    assert not np.allclose(
        last.small.params["head"]["kernel"], first.small.params["head"]["kernel"]
    )


@pytest.mark.slow  # another program of both networks
def test_two_networks_with_batches_of_one_size_are_the_same() -> None:
    _, first, last = run(config_of(PAIR, small_batch=20))

    chex.assert_trees_all_equal(first.small, first.large)
    chex.assert_trees_all_close(last.small, last.large, rtol=1e-4, atol=1e-5)
    kernels = [state.small.params["head"]["kernel"] for state in (first, last)]
    assert not np.allclose(*kernels)  # trained at all


def test_planes_go_through_the_trained_network(
    pair: measures.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = jax.jit(random_plane, static_argnames="rules")  # not operation by operation
    monkeypatch.setattr(measures, "random_plane", compiled)
    trained = errors_of_pair()
    for name, state in pair.run.state._asdict().items():
        for plane in measures.planes(pair, state):
            assert plane.values["loss"][2, 2] == pytest.approx(trained[f"{name}_train_loss"], 1e-5)
            error = 100 - plane.values["accuracy"][2, 2]
            assert error == pytest.approx(trained[f"{name}_train_error"], abs=1e-4)
            assert np.ptp(plane.values["loss"]) > 0


@pytest.mark.slow  # trains the stage, then compiles the programs of surfaces and of curvature
def test_a_cell_measures_both_networks_and_the_line_between_them() -> None:
    found = measures.batch_size(config_of(PAIR))

    own = {"nonconvex", "minima", "basin", "width", "log_height", "nonconvex_spread"}
    own |= {"sharpness", "sharpness_stderr", "trace", "trace_stderr", "line_width", "weight_norm"}
    own |= {f"{part}_{what}" for part in ("train", "test") for what in ("loss", "error")}
    assert set(found) == {f"{name}_{what}" for name in ("small", "large") for what in own}
    assert all(np.isfinite(value) for value in found.values())
    for name in ("train_loss", "weight_norm", "sharpness", "trace", "log_height"):
        assert abs(found[f"small_{name}"] - found[f"large_{name}"]) > 0  # of two networks


def test_the_line_goes_from_one_network_to_the_other(pair: measures.Trained) -> None:
    line, trained = measures.interpolation(pair), errors_of_pair()

    (along,) = line.axes
    assert along.tolist() == [-0.5, 0, 0.5, 1, 1.5]
    # theta + 1 (theta' - theta) is theta' up to rounding
    assert line.values["loss"][1] == pytest.approx(trained["small_train_loss"], rel=1e-5)
    assert line.values["loss"][3] == pytest.approx(trained["large_train_loss"], rel=1e-4)


def test_numbers_of_a_bowl_are_those_worked_by_hand(pair: measures.Trained) -> None:
    along = np.linspace(-1, 1, 21)
    x, y = np.meshgrid(along, along, indexing="ij")
    section = pair.config.surface.copy_and_resolve_references()
    bowl = Surface((along, along), {"loss": 10 * (x**2 + y**2)})

    found = measures.of_plane(bowl, section)

    assert found["nonconvex"] == 0
    assert found["minima"] == 1
    assert found["log_height"] == pytest.approx(np.log10(20))
    # 10 a^2 < 0.3; a chord between points 0.1 apart misses the curve by 10 * 0.1^2 / 4 at most
    assert found["width"] == pytest.approx(2 * np.sqrt(0.03), abs=0.02)
    inside = np.mean(10 * (x**2 + y**2) < section.basin)
    assert found["basin"] == pytest.approx(inside, abs=0.02)


def test_a_map_agrees_with_a_picture_that_bends_where_its_ratio_is_large() -> None:
    along = np.linspace(-1, 1, 31)
    x, _ = np.meshgrid(along, along, indexing="ij")
    places = along[3:-3:3]
    picture = Surface((along, along), {"loss": x**2 - x**4 + 0 * x.T})  # bent up where 6 x^2 < 1
    bends = np.broadcast_to((12 * places**2 - 2)[:, None], (9, 9)) + 1e-3 * np.arange(9)
    ratio = (bends - bends.min()) / np.ptp(bends) / 2
    values = {"ratio": ratio, "plane_smallest": -bends, "certain": np.ones((9, 9))}

    found = convexity.of_map(Surface((places, places), values), picture, basin=0.2)

    basin = np.broadcast_to((places**2 - places**4 < 0.2)[:, None], (9, 9))
    assert found["ratio_inside"] == np.median(ratio[basin])
    assert found["ratio_outside"] == np.median(ratio[~basin])
    assert found["picture_nonconvex"] == found["plane_nonconvex"] == np.mean(6 * places**2 > 1)
    assert found["near_convex"] == np.mean(ratio < 0.05)
    assert found["certain"] == 1


@pytest.mark.slow
def test_the_plane_of_a_flat_path_shows_the_losses_of_its_states(pair: measures.Trained) -> None:
    end, rows = variables_of(pair.run.state.small), jax.tree.map(jnp.asarray, pair.rows)
    plane = jax.jit(random_plane, static_argnames="rules")(jax.random.key(5), end, rules=FROZEN)
    down = np.linspace(1, 0, 12)
    places = np.stack([down, 0.3 * down**2], axis=1)
    at, loss = jax.jit(moved), jax.jit(pair.loss)
    states = [at(end, plane, place) for place in places]
    path = paths.Path(np.arange(12), states, drops=[6, 9, 11], first=2)
    axes = path_axes(states, frozen=FROZEN.frozen)

    found = paths.of_losses(pair, path, axes)
    random = paths.of_random_directions(pair, path, axes.distances)

    # what is flat has all of its steps in its plane; float32 states
    assert paths.of_steps(path, axes) == pytest.approx(
        {"inside_first": 1, "inside_before_drop": 1}, abs=1e-3
    )
    # losses in float32, through small variances of ten rows
    assert found["loss_factor"] == pytest.approx(1, abs=1e-3)
    rises = np.diff([float(loss(state, rows)) for state in states])
    for name, part in (("first", rises[:2]), ("before_drop", rises[2:6])):
        assert np.sign(found[f"descent_{name}"]) == -np.sign(part.sum())
        assert 0.1 < abs(found[f"descent_{name}"]) <= 1 + 1e-6
    size = sum(leaf.size for leaf in jax.tree.leaves(end["params"]))
    # chi-squared of 64 and 32 degrees of freedom, of two steps at right angles: 4 deviations
    assert random["random_plane"] == pytest.approx(2 / size, rel=1)
    assert random["random_cosine"] == pytest.approx(1, abs=0.6)


def test_augmented_images_are_moved_or_mirrored_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    images = random.uniform(1, 2, (12, 5, 5, 2)).astype(np.float32)

    found = np.asarray(jax.jit(augmented)(images, jax.random.key(3)))

    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    places = set()
    for image, result in zip(padded, found, strict=True):
        crops = {(i, j): image[i : i + 5, j : j + 5] for i in range(9) for j in range(9)}
        fits = [
            (place, side)
            for place, crop in crops.items()
            for side, shown in enumerate((crop, crop[:, ::-1]))
            if np.array_equal(shown, result)
        ]
        assert fits
        places.update(fits)
    assert len({place for place, _ in places}) > 6
    assert len({side for _, side in places}) == 2


@pytest.mark.parametrize(
    ("spec", "count"),  # by instantiating the released classes
    [
        (f"{DEPTH}:paper,depth=20,shortcuts=no", 269_722),
        pytest.param(f"{DEPTH}:paper,depth=20", 272_474, marks=pytest.mark.slow),
        pytest.param(f"{DEPTH}:paper,network=densenet121", 6_956_298, marks=pytest.mark.slow),
        pytest.param(f"{PAIR}:paper", 2 * 2_789_706, marks=pytest.mark.slow),
    ],
)
def test_the_paper_preset_has_the_networks_of_the_paper(spec: str, count: int) -> None:
    state = jax.eval_shape(build(load_config(spec)).init, jax.random.key(0))
    assert count_parameters(state) == count


@pytest.mark.parametrize(
    ("spec", "fields", "said"),
    [
        (DEPTH, {"model__depth": 5}, "config.model.depth=5: expected 2 n + 2"),
        (DEPTH, {"model__kind": "densenet"}, "config.model.depth=4: expected 121 of kind"),
        (DEPTH, {"surface__points": 4}, "config.surface.points=4: expected an odd number"),
        (DEPTH, {"surface__images": 45}, "config.surface.images=45: expected a multiple of 10"),
        (DEPTH, {"surface__products": 1}, "config.surface.products=1"),
        (DEPTH, {"data__num_train": 41}, "config.data.num_train=41: expected a multiple of 10"),
        (DEPTH, {"data__channels": 3}, "config.data.mean=(73.1,): expected 3 numbers"),
        (PAIR, {"small_batch": 3}, "config.small_batch=3: expected a divisor"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    spec: str, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match="config") as error:
        build(config_of(spec, **fields))

    assert said in str(error.value) and "\n" not in str(error.value)


def test_widths_on_a_line_are_those_of_its_two_wells() -> None:
    along = np.linspace(-0.5, 1.5, 201)
    wells = np.minimum(along**2 / 0.04, (along - 1) ** 2 / 0.01)  # 1 at 0 ± 0.2 and at 1 ± 0.1

    found = measures.widths_on_line(Surface((along,), {"loss": wells}), level=1.0)

    # chords between points 0.01 apart
    assert found["small_line_width"] == pytest.approx(0.4, abs=0.002)
    assert found["large_line_width"] == pytest.approx(0.2, abs=0.002)
