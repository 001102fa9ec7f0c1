"""Convexity as data: spectra over a plane, and how far ten planes of one network differ."""

from common.aggregates import Results
from common.comparisons import above, all_of, beats, below, every
from common.tables import Cell, Table, by_last_comma
from common.verdicts import CHECK, PAPER, Verdict, claim
from landscape.visualizing.tables.depth import (
    CONFIG,
    DEEP,
    SHALLOW,
    SHALLOW_PLAIN,
    VARIANTS,
)

MODULE = "landscape.visualizing.convexity"
ROWS = (SHALLOW, SHALLOW_PLAIN, DEEP)
SPECTRUM = {"surface.planes": 1, "surface.images": 200}
PLANES = {"surface.planes": 10, "surface.points": 21, "surface.images": 500}
NEAR = "share of a ratio below 0.05"
INSIDE, OUTSIDE = "median ratio in the basin", "median ratio outside"
PICTURE, PLANE = "non-convex share of the picture", "non-convex share of the plane between kinks"
AGREEMENT, CERTAIN = "rank correlation with the picture", "share of a certain sign"
MAP = {
    NEAR: "near_convex",
    INSIDE: "ratio_inside",
    OUTSIDE: "ratio_outside",
    PICTURE: "picture_nonconvex",
    PLANE: "plane_nonconvex",
    AGREEMENT: "agreement",
    CERTAIN: "certain",
}
OF_TEN = {
    "non-convex share": "nonconvex",
    "basin area": "basin",
    "strict minima": "minima",
}
STATISTICS = {"mean": "", "spread": "_spread", "least": "_least", "most": "_most"}


def of_ten(statistic: str, what: str) -> str:
    """Returns the label of a column about ten planes."""
    return f"{statistic}, {what} of ten planes"


@claim(PAPER, "Sec. 6")
def maps_tell_shortcuts(results: Results) -> Verdict:
    """At 20 layers |λmin/λmax| is below 0.05 on more of the plane with shortcuts than without."""
    return beats(results[SHALLOW, NEAR], results[SHALLOW_PLAIN, NEAR])


@claim(PAPER, "Sec. 6")
def basins_are_nearly_convex(results: Results) -> Verdict:
    """|λmin/λmax| is lower in the basin around a network than outside it."""
    pairs = [(results[row, INSIDE], results[row, OUTSIDE]) for row in ROWS]
    return all_of(*(beats(inside, outside, lower=True) for inside, outside in pairs))


@claim(PAPER, "Sec. 6")
def maps_agree_with_pictures(results: Results) -> Verdict:
    """Within each plane the ratio goes with the non-convexity of the picture (rank correlation)."""
    return every(above, results, ROWS, 0.5, on=AGREEMENT)


@claim()
def pictures_are_bent_at_kinks(results: Results) -> Verdict:
    """Without shortcuts the picture is less convex than its plane is between the kinks of ReLUs."""
    return beats(results[SHALLOW_PLAIN, PLANE], results[SHALLOW_PLAIN, PICTURE], lower=True)


@claim(PAPER, "App.")
def planes_agree_in_kind(results: Results) -> Verdict:
    """At 20 layers every one of ten planes is more convex with shortcuts than any without."""
    most, least = (of_ten(which, "non-convex share") for which in ("most", "least"))
    return beats(results[SHALLOW, most], results[SHALLOW_PLAIN, least], lower=True)


@claim(PAPER, "App.")
def planes_nearly_coincide(results: Results) -> Verdict:
    """At 20 layers with shortcuts non-convex share and basin area of ten planes spread < 0.05."""
    columns = [of_ten("spread", what) for what in ("non-convex share", "basin area")]
    return every(below, results, SHALLOW, 0.05, on=columns)


@claim(CHECK)
def signs_are_certain(results: Results) -> Verdict:
    """At nearly all points the residual leaves no doubt about the sign of the least eigenvalue."""
    return every(above, results, ROWS, 0.95, on=CERTAIN)


KINKS = (
    "The Hessian of a network of ReLUs is the curvature between kinks, and what bends a picture "
    "downwards are the kinks, most of all without shortcuts: there are so many that second "
    "differences turn into the Hessian over steps below a millionth of the weights only. A map of "
    "eigenvalues does not see them."
)

TABLE = Table(
    title="Convexity: the ends of the spectrum over a plane, and ten planes of one network",
    source="Li et al. (2018), Fig. 7, Sec. 6 and the appendix",
    config=CONFIG,
    cells=tuple(
        Cell(row, column, overrides, metric, run=f"{MODULE}:{function}", variant=VARIANTS[row])
        for row in ROWS
        for function, overrides, metrics in (
            ("spectrum", SPECTRUM, MAP),
            (
                "many_planes",
                PLANES,
                {
                    of_ten(statistic, what): f"{metric}{suffix}"
                    for what, metric in OF_TEN.items()
                    for statistic, suffix in STATISTICS.items()
                },
            ),
        )
        for column, metric in metrics.items()
    ),
    split=by_last_comma,
    headline=("planes_agree_in_kind", "basins_are_nearly_convex"),
    notes=(
        "No published value: the paper has pictures only. Networks are those of table depth.",
        "Maps: |λmin/λmax| of the Hessian of all kernels over 200 images, at every third point of "
        "the first plane, by Lanczos; the basin is where the loss is below ln 10. Signs are "
        "certain where the residual is below |λmin|.",
        "The picture has second differences over a fifteenth of the length of the weights. The "
        "Hessian of the loss, and of its restriction to the plane, are those between kinks: "
        "a network of ReLUs is smooth but for kinks.",
        "Rank correlation: Spearman's, over the points of a map, of |λmin/λmax| with -λmin/|λmax| "
        "of the second differences of the picture.",
    ),
    reasons={"maps_tell_shortcuts": KINKS, "maps_agree_with_pictures": KINKS},
)
