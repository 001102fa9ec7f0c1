"""What table convexity says of trained networks: maps of the spectrum, and many planes of one.

Functions `config -> metrics` of cells, on the networks of table depth; see `measures`.
"""

import numpy as np
from ml_collections import ConfigDict
from scipy.stats import rankdata

from common.steps import TrainState
from landscape import maps, shapes
from landscape.grids import Surface
from landscape.visualizing.experiments import variables_of
from landscape.visualizing.measures import (
    FROZEN,
    Trained,
    of_plane,
    planes,
    random_planes,
    square,
    trained,
)

KERNELS = f"{FROZEN.frozen}|(bias|scale)$"  # not these: released code, hess_vec_prod.py
EVERY = 3  # of how many points of a picture along an axis one is on the map
SMALL = 0.05  # of |lambda_min / lambda_max|: positive curvature dominates


def spectrum(config: ConfigDict) -> dict[str, float]:
    """Returns how convex the map of one plane is, and whether the picture of it agrees."""
    found = trained(config)
    picture = planes(found, found.run.state)[0]
    return of_map(spectrum_map(found, found.run.state), picture, basin=config.surface.basin)


def many_planes(config: ConfigDict) -> dict[str, float]:
    """Returns mean, spread and extremes of what the planes of one network look like."""
    found = trained(config)
    numbers = [of_plane(plane, config.surface) for plane in planes(found, found.run.state)]
    metrics = {}
    for name in ("nonconvex", "basin", "minima"):
        values = np.array([one[name] for one in numbers])
        metrics |= {
            name: float(np.mean(values)),
            f"{name}_spread": float(np.std(values)),
            f"{name}_least": float(np.min(values)),
            f"{name}_most": float(np.max(values)),
        }
    return metrics


def spectrum_map(found: Trained, state: TrainState) -> Surface:
    """Returns both ends of the spectrum over the first plane, at some of its points.

    Source: Li et al. (2018), Sec. 6; kernels only, as in the released code.
    """
    section = found.config.surface
    return maps.curvature_map(
        found.loss,
        variables_of(state),
        [found.rows],
        random_planes(found, state)[0],
        [along[EVERY:-EVERY:EVERY] for along in square(section)],
        key=found.key,
        frozen=KERNELS,
        max_steps=section.products,
        keep=True,
    )


def of_map(found: Surface, picture: Surface, *, basin: float) -> dict[str, float]:
    """Returns the numbers of a map, and what the picture of its plane shows at the same points.

    The basin is where the loss is below `basin`.

    The rank correlation (Spearman's) is that of |lambda_min / lambda_max| with -lambda_min /
    |lambda_max| of the picture's second differences. These see the kinks of ReLUs between points;
    the Hessian, also that of the plane ("plane_nonconvex"), is the curvature between kinks.
    """
    values = found.values
    ratio = values["ratio"]
    on_map = slice(EVERY - 1, 1 - EVERY, EVERY)  # second differences begin at the second point
    low, high = (
        ends[on_map, on_map] for ends in shapes.curvatures(picture.values["loss"], picture.axes)
    )
    inside = picture.values["loss"][EVERY:-EVERY:EVERY, EVERY:-EVERY:EVERY] < basin
    shown = np.nan_to_num(-low / np.maximum(np.abs(low), np.abs(high)), nan=1.0)
    ranks = [rankdata(x.reshape(-1)) for x in (ratio, shown)]
    return {
        "near_convex": float(np.mean(ratio < SMALL)),
        "ratio_inside": float(np.median(ratio[inside])),
        "ratio_outside": float(np.median(ratio[~inside])),
        "plane_nonconvex": float(np.mean(values["plane_smallest"] < 0)),
        "picture_nonconvex": float(np.mean(shown > 0)),
        "agreement": float(np.corrcoef(*ranks)[0, 1]),
        "certain": float(np.mean(values["certain"])),
    }
