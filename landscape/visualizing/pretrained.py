"""Networks that others have trained: in place of a run, weights and images from $DATA_DIR.

A seed chooses no training here: it draws directions and probes, and takes other training images
where there are more than are asked for.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common.evaluation import sums_over
from common.experiment import build
from common.files.data_dir import data_file
from common.nets.published_resnets import read_resnet
from common.runs import Loaded
from common.steps import TrainState
from landscape import curvature, shapes, surfaces, traces
from landscape.directions import filter_normalized
from landscape.filters import FilterRules
from landscape.grids import Surface, axis
from landscape.visualizing.experiments import variables_of
from landscape.visualizing.measures import FROZEN, Trained, of_plane, of_run, planes
from landscape.visualizing.networks import STATISTICS

PyTree = Any
# The Hessian is that of filters, as in the released code: of tensors with more than one axis.
FILTERS_ONLY = FilterRules(frozen=f"(^|/){STATISTICS}/|/(bias|scale)$")
LINES, PROBES, START = 1, 2, 3  # streams of `Trained.key`
LOW = 4.0  # loss up to which the paper sees convex contours


def pretrained(config: ConfigDict) -> Trained:
    """Returns the network in the file `config.weights`, as if the run of `config` had trained it.

    Raises:
        DataError: In one line, if weights or images are not on this machine, or are damaged.
    """
    images = config.surface.images
    sets = config.data.num_train // images  # of training images, without overlap
    return of_run(config, _as_run(config), skip=config.seed % sets * images)


def numbers(config: ConfigDict) -> dict[str, float]:
    """Returns errors of a network, its curvature, and how wide its minimum is along lines."""
    found = pretrained(config)
    errors = found.run.evaluate()
    widths = [_width(line, config.surface.level) for line in lines(found)]
    return {
        **errors,
        "test_accuracy": 100 - errors["test_error"],
        **curvatures(found),
        "width": float(np.mean(widths)),
        "width_spread": float(np.std(widths)),
    }


def plane(config: ConfigDict) -> dict[str, float]:
    """Returns what the plane of a network looks like, and how long one core takes for it."""
    found = pretrained(config)
    (surface,) = planes(found, found.run.state)
    loss = surface.values["loss"]
    low = np.where(loss < LOW, loss, np.nan)  # curvature where all points around have a low loss
    return {
        **of_plane(surface, config.surface),
        "nonconvex_low": shapes.non_convex_share(low, surface.axes),
        "hours": loss.size * seconds_per_point(found) / 3600,
    }


def curvatures(found: Trained) -> dict[str, float]:
    """Returns the sharpness and the largest eigenvalue of the Hessian over filters."""
    variables, section = variables_of(found.run.state), found.config.surface
    batches = _batches(found.rows, section.chunk)
    sharpness = traces.sharpness(
        found.loss,
        variables,
        batches,
        key=jax.random.fold_in(found.key, PROBES),
        num_products=section.products,
        rules=FILTERS_ONLY,
    )
    largest = curvature.eigenpairs(
        found.loss,
        variables,
        batches,
        key=jax.random.fold_in(found.key, START),
        k=1,
        frozen=FILTERS_ONLY.frozen,
        tolerance=3e-2,
    )
    return {
        "sharpness": sharpness.value,
        "sharpness_stderr": sharpness.stderr,
        "eigenvalue": float(largest.values[0]),
        "eigenvalue_residual": float(largest.residuals[0]),
    }


def lines(found: Trained) -> list[Surface]:
    """Returns the loss along random filter-normalized directions, biases at rest.

    Source: Li et al. (2018), Sec. 4; f(a) = L(theta + a d).
    """
    section, variables = found.config.surface, variables_of(found.run.state)
    along = axis(-section.line_span, section.line_span, section.line_points)
    keys = jax.random.split(jax.random.fold_in(found.key, LINES), section.lines)
    return [
        surfaces.surface(
            found.values,
            variables,
            (filter_normalized(key, variables, rules=FROZEN),),
            (along,),
            found.rows,
            chunk=section.chunk,
            at_once=section.at_once,
            keep=True,
        )
        for key in keys
    ]


def seconds_per_point(found: Trained) -> float:
    """Returns the processor time of the loss at one point, the better of two evaluations."""

    @jax.jit
    def loss(variables: PyTree, rows: PyTree) -> Any:
        values = lambda part: found.values(variables, part)
        return sums_over(values, rows, chunk=found.config.surface.chunk)

    taken = []
    for _ in range(3):  # the first one compiles
        began = time.process_time()
        jax.block_until_ready(loss(variables_of(found.run.state), found.rows))
        taken.append(time.process_time() - began)
    return min(taken[1:])


def _width(line: Surface, level: float) -> float:
    (along,) = line.axes
    return shapes.width(line.values["loss"], along, level)


def _as_run(config: ConfigDict) -> Loaded:
    """Returns a run of no steps, whose state are the published weights."""
    path = data_file(config.weights)
    experiment = build(config)
    _, params, model_state = read_resnet(path)
    state = TrainState(params, (), model_state)
    data = jax.tree.map(jnp.asarray, experiment.data())
    return Loaded(config, experiment, 0, jax.tree.map(jnp.asarray, state), data)


def _batches(rows: PyTree, size: int) -> list[PyTree]:
    """Returns rows in batches, the last of which may be smaller."""
    cuts = range(size, len(jax.tree.leaves(rows)[0]), size)
    leaves, structure = jax.tree.flatten(rows)
    parts = zip(*(np.split(leaf, cuts) for leaf in leaves), strict=True)
    return [jax.tree.unflatten(structure, part) for part in parts]
