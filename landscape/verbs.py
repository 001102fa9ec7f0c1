"""The verbs of `lab` that look at the surface around any saved run; nothing here loads JAX."""

from common.verbs import Flag, RunVerb, one_of

DIRECTIONS = ("filter", "layer", "weight", "hessian", "pca")


def _odd(points: int) -> str:
    return "" if points % 2 else "an odd number, so that the run itself is a point of the grid"


def _positive(span: float) -> str:
    return "" if 0 < span < float("inf") else "a number above 0"


VERBS = {
    "surface": RunVerb(
        "the loss surface around a saved run: contours, eigenvalues of the Hessian, sharpness",
        "landscape.run_surface:surface",
        flags=(
            Flag("resolution", 25, "points along each axis, odd", 3, 501, expected=_odd),
            Flag(
                "direction",
                "filter",
                "filter, layer or weight: random, as long as these; hessian: top eigenvectors; "
                "pca: along the run's path",
                expected=one_of(*DIRECTIONS),
            ),
            Flag("span", 1.0, "coordinates go from -span to span", expected=_positive),
            Flag("plane", 0, "another number draws other random directions", 0, 2**31 - 1),
            Flag(
                "metric",
                None,
                "of `lab eval`, the loss in front: valid_loss,valid_accuracy; default: the loss",
            ),
            Flag("rows", 0, "at most so many rows of the data, evenly spread; 0: all", 0),
            Flag("stacked", None, "regex of parameters whose first axis counts layers"),
            Flag("curvature", True, "also eigenvalues and sharpness"),
            Flag("to", None, "folder to write; default: in the run folder", is_path=True),
        ),
        stopped="the points that were done are kept, and the same command continues",
        examples=(
            "lab surface 0123456789ab",
            "lab surface 0123456789ab --resolution=51 --rows=500 --devices=2",
            "lab surface 0123456789ab --direction=hessian",
        ),
        notes="""\
What the run is evaluated by (`lab eval`) over a plane through its parameters; the rest of its
state, such as statistics of batch normalization, stays as it was saved. Points are kept in the
cache: a command that was stopped continues. pca needs three checkpoints or more: train with
--config.checkpoint_every=N --config.keep=1000.

In the folder: surface.png, surface.html (turn it in a browser), surface.json (for
landscape.grids.from_json), numbers.json.

Exit codes: 2 a mistake in the command, or a run that has no such surface; 3 the loss is not finite
at the run itself; 4 no such checkpoint, data or storage; 75 stopped.""",
    ),
}
