"""`lab surface`: the surface around a saved run, its eigenvalues and sharpness, and their files."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from common.figures import page
from common.files.json_files import write_json
from common.files.storage import check_writable, storage_errors, user_path
from common.progress import duration
from common.runs import Loaded
from landscape import figures, shapes, surfaces, viewer
from landscape.curvature import Eigenpairs, eigenpairs
from landscape.grids import Surface, axis, to_json
from landscape.objectives import Objective, objective_of
from landscape.products import averaged
from landscape.run_planes import Plane, RunPath, hessian_plane, normalized_plane, path_plane
from landscape.traces import sharpness

NUM_EIGENVALUES = 5
NUM_PROBES = 48  # of the sharpness
ONE_ROW = {"all": np.zeros(1)}  # the data are a part of the objective


def surface(
    run: Loaded,
    *,
    resolution: int,
    direction: str,
    span: float,
    plane: int,
    metric: str | None,
    rows: int,
    stacked: str | None,
    curvature: bool,
    to: str | None,
) -> str:
    """Measures the surface around a run, writes its files; returns what there is to say.

    Args:
        run: A run of one seed.
        resolution: Points along each axis.
        direction: One of `verbs.DIRECTIONS`.
        span: Coordinates go from -span to span; those of "pca" enclose the path.
        plane: Number of the random directions.
        metric: See `objectives.objective_of`, as for `rows`.
        rows: At most so many.
        stacked: Of `filters.FilterRules`.
        curvature: Whether eigenvalues and sharpness are computed too.
        to: Folder to write, None: one in the run folder.

    Raises:
        ValueError: If the run cannot be moved so, or the loss is not finite at the run.
        DataError: If a checkpoint is damaged or a file cannot be written.
    """
    objective = objective_of(run, metrics=metric or "", rows=rows)
    loss = objective.names[0]
    folder = user_path(to) if to else run.path / "surfaces" / name_of(run, loss, direction, plane)
    check_writable(folder)
    along, pairs = axis(-span, span, resolution), None
    if direction == "pca":
        chosen = path_plane(run, objective, resolution)
    elif direction == "hessian":
        pairs = top_eigenpairs(objective)
        chosen = hessian_plane(objective, pairs, along)
    else:
        by = {"by": direction, "number": plane, "stacked": stacked}
        chosen = normalized_plane(objective, along, **by)
    found = measured(objective, chosen)
    facts = facts_of(run, objective, chosen)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, found, loss, facts, chosen)
    numbers = numbers_of(run, objective, chosen, found)
    if curvature:
        numbers |= curvature_of(objective, pairs)
    write_json(folder / "numbers.json", numbers)
    return text_of(facts, numbers, folder)


def name_of(run: Loaded, loss: str, direction: str, plane: int) -> str:
    """Returns the name of the folder in the run folder: what is looked at, and how."""
    seed = [] if run.row is None else [f"seed{run.config.seed}"]  # of a seed group
    number = [str(plane)] if plane else []
    return "-".join([loss, direction, *number, f"step{run.step}", *seed])


def measured(objective: Objective, plane: Plane) -> Surface:
    """Returns the metrics over a plane, its parts kept in the cache.

    Raises:
        ValueError: If the loss is not finite at the run, or the same everywhere.
    """
    found = surfaces.surface(
        objective.values,
        objective.params,
        plane.directions,
        plane.axes,
        ONE_ROW,
        model_state=objective.frozen,
        keep=True,
    )
    loss = found.values[objective.names[0]]
    if not np.ptp(loss[np.isfinite(loss)]) > 0:
        raise ValueError(f"metric={objective.names[0]}: it is the same at all points of the plane")
    return found


def top_eigenpairs(objective: Objective) -> Eigenpairs:
    """Returns the top eigenvalues of the Hessian at the run, having said how long it takes."""
    loss, params, batches = objective.loss, objective.params, [objective.frozen]
    operator, key = averaged(loss, params, batches), jax.random.key(0)
    size = operator.layout.size
    vector = jnp.ones((size,), operator.layout.dtype)
    jax.block_until_ready(operator.apply(vector))  # compiles
    began = time.perf_counter()
    jax.block_until_ready(operator.apply(vector))
    seconds, count = time.perf_counter() - began, NUM_PROBES + min(60, size)
    text = "eigenvalues and sharpness: some %d Hessian products, about %s"
    logging.info(text, count, duration(count * seconds))
    return eigenpairs(loss, params, batches, key=key, k=min(NUM_EIGENVALUES, size))


def curvature_of(objective: Objective, pairs: Eigenpairs | None) -> dict[str, Any]:
    """Returns the numbers of the Hessian at the run; `pairs` if they were computed before."""
    pairs = pairs or top_eigenpairs(objective)
    found = sharpness(
        objective.loss,
        objective.params,
        [objective.frozen],
        key=jax.random.key(1),
        num_products=NUM_PROBES,
    )
    # Rounding of the products, which residuals do not see.
    kind = jnp.finfo(jnp.result_type(jnp.float32, *objective.params.values()))
    rounding = float(kind.eps) * float(np.max(np.abs(pairs.values)))
    return {
        "eigenvalues": pairs.values.tolist(),
        "residuals": np.maximum(pairs.residuals, rounding).tolist(),
        "sharpness": found._asdict(),
    }


def facts_of(run: Loaded, objective: Objective, plane: Plane) -> dict[str, str]:
    """Returns what one has to know to read the figure, line by line."""
    used, count = objective.rows
    some = f"{used:,} of {count:,} rows, evenly spread" if used < count else f"all {count:,} rows"
    state = "frozen, as saved" if objective.has_statistics else "none"
    return {
        "run": f"{run.config.experiment}, seed {run.config.seed}, step {run.step}",
        "loss": objective.names[0] + (f", {some}" if count else ", of the evaluation of the run"),
        "directions": plane.said,
        "biases, norm layers": plane.vectors,
        "batch statistics": state,
    }


def numbers_of(
    run: Loaded,
    objective: Objective,
    plane: Plane,
    found: Surface,
) -> dict[str, Any]:
    """Returns all that was measured besides the surface, as plain values."""
    loss, middle = found.values[objective.names[0]], [int(np.argmin(np.abs(a))) for a in found.axes]
    numbers: dict[str, Any] = {
        "run": {"experiment": run.config.experiment, "seed": run.config.seed, "step": run.step},
        "rows": list(objective.rows),
        "center": {name: float(z[tuple(middle)]) for name, z in found.values.items()},
        "non_convex_share": shapes.non_convex_share(loss, found.axes),
        "num_minima": shapes.num_minima(loss),
        "roughness": shapes.roughness(loss),
    }
    if plane.path is not None:
        path = plane.path
        values = jax.jit(objective.values)
        losses = [
            float(values(params, None, objective.frozen)[objective.names[0]])
            for params in RunPath(run, objective, plane.steps)
        ]
        numbers["path"] = {
            "steps": list(plane.steps),
            "explained": path.explained.tolist(),
            "coordinates": path.coordinates.tolist(),
            "residuals": path.residuals.tolist(),
            "losses": losses,  # not those of the plane: a checkpoint lies off it
        }
    return numbers


def write(folder: Path, found: Surface, name: str, facts: Mapping[str, str], plane: Plane) -> None:
    """Writes picture, page and surface."""
    write_json(folder / "surface.json", to_json(found))
    steps = None if plane.path is None else plane.path.coordinates
    with page(folder / "surface.png", (6.5, 6.0)) as figure:
        figures.plane(figure, found, name=name, title=facts["run"], facts=facts, steps=steps)
    ceiling = float(figures.levels_of(found.values[name])[-1])
    title = ", ".join([facts["run"], name, facts["directions"]])
    viewer.write_page(folder / "surface.html", found, title=title, name=name, ceiling=ceiling)


def text_of(facts: Mapping[str, str], numbers: Mapping[str, Any], folder: Path) -> str:
    """Returns facts and numbers, a line each."""
    rows = {
        **facts,
        "at the run": "  ".join(f"{name} {z:.7g}" for name, z in numbers["center"].items()),
        "the plane": f"non-convex share {numbers['non_convex_share']:.3g}, "
        f"{numbers['num_minima']} strict minima, roughness {numbers['roughness']:.3g}",
    }
    if "eigenvalues" in numbers:
        pairs = zip(numbers["eigenvalues"], numbers["residuals"], strict=True)
        sharp = numbers["sharpness"]
        rows["top eigenvalues"] = "  ".join(f"{z:.6g} ± {error:.1g}" for z, error in pairs)
        rows["sharpness"] = f"{sharp['value']:.5g} ± {sharp['stderr']:.2g} (filter-normalized)"
    rows["written"] = str(folder)
    width = max(map(len, rows))
    return "\n".join(f"{what:{width}}  {said}" for what, said in rows.items())
