"""What the tables say of trained networks: planes, lines, and the curvature in numbers.

Functions `config -> metrics` of cells. Each trains its networks as a stage (`common.stages`) and
keeps every part of a surface in the cache, so that a process that was stopped goes on where it was;
the figures draw the same surfaces from there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common import stages
from common.data.image_sets import CLASSES
from common.data.images import balanced_indices
from common.runs import Loaded
from common.steps import TrainState
from landscape import shapes, surfaces, traces
from landscape.directions import random_plane, towards
from landscape.grids import Surface, axis
from landscape.visualizing.experiments import network_of, variables_of
from landscape.visualizing.networks import FROZEN, cross_entropy, scores

PyTree = Any
STREAM = 17  # of the directions, apart from the keys of the training


class Trained(NamedTuple):
    """Trained networks and the images that their surfaces are over.

    Attributes:
        config: Config of the table's run.
        run: The run that trained them.
        values: (variables, rows) -> loss and accuracy of every row.
        loss: (variables, rows) -> mean loss.
        rows: Training images and labels, without augmentation.
    """

    config: ConfigDict
    run: Loaded
    values: Callable[[PyTree, PyTree], dict[str, jax.Array]]
    loss: Callable[[PyTree, PyTree], jax.Array]
    rows: PyTree

    @property
    def key(self) -> jax.Array:
        """The key of all directions and probes; the same for all networks of a seed."""
        return jax.random.fold_in(jax.random.key(self.config.seed), STREAM)


def depth(config: ConfigDict) -> dict[str, float]:
    """Returns errors, the numbers of some planes, and the sharpness of one network."""
    found = trained(config)
    return {**found.run.evaluate(), **of_network(found, found.run.state)}


def batch_size(config: ConfigDict) -> dict[str, float]:
    """Returns the same of both networks, and how wide each looks on the line through them."""
    found = trained(config)
    states: dict[str, TrainState] = found.run.state._asdict()
    numbers = dict(found.run.evaluate())
    for name, state in states.items():
        numbers |= {f"{name}_{k}": v for k, v in of_network(found, state).items()}
    numbers |= widths_on_line(interpolation(found), level=config.surface.level)
    return numbers


def trained(config: ConfigDict) -> Trained:
    """Returns the networks of a config, trained once; another surface takes the same ones."""
    return of_run(config, stages.trained(stage_of(config)))


def of_run(config: ConfigDict, run: Loaded, *, skip: int = 0) -> Trained:
    """Returns the networks of a run with the images of `config.surface`.

    Args:
        config: Config of the run, with its surface.
        run: What was trained.
        skip: Training images to pass over, so that surfaces are over others.
    """
    count = config.surface.images
    labels = np.asarray(run.data["train"]["label"])
    chosen = balanced_indices(labels, per_class=count // CLASSES, skip=skip // CLASSES)
    rows = jax.tree.map(lambda x: np.asarray(x)[chosen], run.data["train"])
    network = network_of(config)

    def loss(variables: PyTree, rows: PyTree) -> jax.Array:
        logits = network.apply(variables, rows["image"])
        return jnp.mean(cross_entropy(logits, rows["label"]))

    return Trained(config, run, partial(scores, network), loss, rows)


def stage_of(config: ConfigDict) -> ConfigDict:
    """Returns the config of the run that trains the networks of a config."""
    stage = ConfigDict(config.to_dict())
    del stage["surface"]
    return stage.lock()


def of_network(found: Trained, state: TrainState) -> dict[str, float]:
    """Returns the numbers of a network's planes, means over planes, and its sharpness."""
    section = found.config.surface
    numbers = [of_plane(plane, section) for plane in planes(found, state)]
    by_name = {name: np.array([one[name] for one in numbers]) for name in numbers[0]}

    def curvature(by: str) -> traces.Estimate:
        return traces.sharpness(
            found.loss,
            variables_of(state),
            [found.rows],
            key=found.key,
            num_products=section.products,
            by=by,
            rules=FROZEN,
        )

    sharpness, trace = curvature("filter"), curvature("none")
    return {
        **{name: float(np.mean(values)) for name, values in by_name.items()},
        "nonconvex_spread": float(np.std(by_name["nonconvex"])),
        "sharpness": sharpness.value,
        "sharpness_stderr": sharpness.stderr,
        "trace": trace.value,
        "trace_stderr": trace.stderr,
    }


def of_plane(plane: Surface, section: ConfigDict) -> dict[str, float]:
    """Returns what a plane looks like: convexity, minima, basin, walls, and width of its axes."""
    loss, axes = plane.values["loss"], plane.axes
    middle = len(axes[0]) // 2
    lines = zip((loss[:, middle], loss[middle, :]), axes, strict=True)
    widths = [shapes.width(line, along, section.level) for line, along in lines]
    return {
        "nonconvex": shapes.non_convex_share(loss, axes),
        "minima": float(shapes.num_minima(loss)),
        "basin": shapes.basin_share(loss, section.basin),
        "log_height": float(np.log10(np.max(loss[np.isfinite(loss)]))),
        "width": float(np.mean(widths)),
    }


def widths_on_line(line: Surface, *, level: float) -> dict[str, float]:
    """Returns how wide each network looks on the line, on its side of the barrier.

    Their sides meet at the highest loss between them.
    """
    (along,), loss = line.axes, line.values["loss"]
    between = (along >= 0) & (along <= 1)
    top = int(np.argmax(np.where(between, loss, -np.inf)))
    return {
        "small_line_width": shapes.width(loss[: top + 1], along[: top + 1], level),
        "large_line_width": shapes.width(loss[top:], along[top:], level),
    }


def planes(found: Trained, state: TrainState) -> list[Surface]:
    """Returns the loss over planes along random filter-normalized directions, biases at rest.

    Source: Li et al. (2018), Sec. 4; the statistics of batch normalization stay those of the
    trained network.
    """
    section, variables = found.config.surface, variables_of(state)
    return [
        surfaces.surface(
            found.values,
            variables,
            directions,
            square(section),
            found.rows,
            chunk=section.chunk,
            at_once=section.at_once,
            keep=True,
        )
        for directions in random_planes(found, state)
    ]


def random_planes(found: Trained, state: TrainState) -> list[tuple[PyTree, PyTree]]:
    """Returns the directions of all planes; the first ones are the same however many there are."""
    keys = jax.random.split(found.key, found.config.surface.planes)
    return [random_plane(key, variables_of(state), rules=FROZEN) for key in keys]


def square(section: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates of a plane along both directions."""
    along = axis(-section.span, section.span, section.points)
    return along, along


def interpolation(found: Trained) -> Surface:
    """Returns loss and accuracy on the line from the small-batch network (0) to the other (1).

    Source: Li et al. (2018), Sec. 3; statistics of batch normalization are interpolated too, as in
    the released code.
    """
    section, pair = found.config.surface, found.run.state
    small, large = variables_of(pair.small), variables_of(pair.large)
    return surfaces.surface(
        found.values,
        small,
        (towards(small, large),),
        (axis(-0.5, 1.5, section.line_points),),
        found.rows,
        chunk=section.chunk,
        at_once=section.at_once,
        keep=True,
    )
