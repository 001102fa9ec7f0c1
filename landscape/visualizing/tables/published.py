"""The published ResNets for CIFAR-10 as data: four networks that others have trained."""

from common.aggregates import Results
from common.comparisons import all_of, at_least_times, at_most_times, beats, below, near, not_worse
from common.tables import Cell, Published, Table
from common.verdicts import CHECK, PAPER, Verdict, claim

CONFIG = "landscape/visualizing/configs/published.py"
NUMBERS, PLANE = (f"landscape.visualizing.pretrained:{name}" for name in ("numbers", "plane"))
DEPTHS = {f"ResNet-{depth}": depth for depth in (20, 32, 44, 56)}
SHALLOW, *_, DEEP = DEPTHS
ACCURACY, ERROR, TRAIN = "test accuracy (%)", "test error (%)", "training loss"
SHARPNESS, STDERR = "sharpness", "its standard error"
EIGENVALUE, RESIDUAL = "largest eigenvalue", "its residual"
WIDTH, SPREAD = "width along lines", "its spread over lines"
NONCONVEX, MINIMA, BASIN = "non-convex share", "strict minima", "basin area"
NONCONVEX_LOW = "non-convex share at losses below 4"
HOURS = "core hours of the plane"
METRICS = {
    ACCURACY: "test_accuracy",
    ERROR: "test_error",
    TRAIN: "train_loss",
    SHARPNESS: "sharpness",
    STDERR: "sharpness_stderr",
    EIGENVALUE: "eigenvalue",
    RESIDUAL: "eigenvalue_residual",
    WIDTH: "width",
    SPREAD: "width_spread",
}
OF_PLANES = {
    NONCONVEX: "nonconvex",
    NONCONVEX_LOW: "nonconvex_low",
    MINIMA: "minima",
    BASIN: "basin",
    HOURS: "hours",
}
# Of the 1,000 test images of the lossless subset, and of all 10,000 as the weights' authors say.
RIGHT = dict(zip(DEPTHS, (91.5, 92.8, 93.3, 92.6), strict=True))
PUBLISHED = {
    row: Published(error, None, "README of the weights, 10,000 test images")
    for row, error in zip(DEPTHS, (8.27, 7.37, 6.90, 6.61), strict=True)
}


def _in_order(results: Results, column: str, *, lower: bool) -> Verdict:
    """Judges whether every network beats the one before it, whose published error is higher."""
    rows = list(DEPTHS)
    return all_of(
        *(
            beats(results[deeper, column], results[row, column], lower=lower)
            for row, deeper in zip(rows, rows[1:], strict=False)
        )
    )


def _with_planes(results: Results) -> list[str]:
    """Returns the networks whose planes are in the table."""
    return [row for row in (SHALLOW, DEEP) if row in results.rows]


@claim(PAPER, "Sec. 4.1")
def sharpness_ranks_test_errors(results: Results) -> Verdict:
    """Of two networks that with the lower published test error has the lower sharpness."""
    return _in_order(results, SHARPNESS, lower=True)


@claim(PAPER, "Sec. 4.1")
def wide_minima_generalize(results: Results) -> Verdict:
    """Of two networks that with the lower published test error is wider along random lines."""
    return _in_order(results, WIDTH, lower=False)


@claim(PAPER, "Sec. 5.1")
def depth_with_shortcuts_keeps_convexity(results: Results) -> Verdict:
    """ResNet-56 has no larger non-convex share and no more minima than ResNet-20."""
    return all_of(
        *(
            not_worse(results[DEEP, column], results[SHALLOW, column], lower=True)
            for column in (NONCONVEX, MINIMA)
        )
    )


@claim(PAPER, "Sec. 5.1")
def surfaces_with_shortcuts_are_convex(results: Results) -> Verdict:
    """Less than a tenth of a surface is not convex."""
    return all_of(*(below(results[row, NONCONVEX], 0.1) for row in _with_planes(results)))


@claim(PAPER, "Sec. 5")
def low_regions_are_convex(results: Results) -> Verdict:
    """Up to a loss of 4 less than a tenth of a surface is not convex."""
    return all_of(*(below(results[row, NONCONVEX_LOW], 0.1) for row in _with_planes(results)))


@claim(PAPER, "Sec. 5.1")
def contours_are_alike(results: Results) -> Verdict:
    """The contour of loss 0.1 is as wide for ResNet-56 as for ResNet-20, within a quarter."""
    deep, shallow = results[DEEP, WIDTH], results[SHALLOW, WIDTH]
    return all_of(at_least_times(deep, shallow, 0.75), at_most_times(deep, shallow, 1.25))


@claim()
def the_deepest_is_the_flattest(results: Results) -> Verdict:
    """ResNet-56 has a lower sharpness than ResNet-20, and is wider along random lines."""
    sharpness, width = ((results[DEEP, c], results[SHALLOW, c]) for c in (SHARPNESS, WIDTH))
    return all_of(beats(*sharpness, lower=True), beats(*width))


@claim()
def eigenvalues_rank_test_errors(results: Results) -> Verdict:
    """Of two networks that with the lower published test error has the lower largest eigenvalue."""
    return _in_order(results, EIGENVALUE, lower=True)


@claim(CHECK)
def weights_are_the_published_ones(results: Results) -> Verdict:
    """Each network is right on as many of the 1,000 test images as others have counted."""
    return all_of(*(near(results[row, ACCURACY], RIGHT[row], 0.101) for row in results.rows))


@claim(CHECK)
def sharpness_is_measured(results: Results) -> Verdict:
    """The standard error of every sharpness is below a third of it."""
    return all_of(
        *(below(results[row, STDERR], results[row, SHARPNESS].mean / 3) for row in results.rows)
    )


FEW = (
    "networks that fit nearly every image are curved by the few that they do not fit: over other "
    "sixty images the sharpness of ResNet-20 is 0.7, 2.4 or 4.3"
)
OUTSIDE = (
    "What is not convex lies where the loss is above 4: at most a fifth of a plane's points below "
    "are not convex, and none of ResNet-20. The surface of ResNet-56 is the lower one out there."
)


def _cells(rows: tuple[str, ...], planes: tuple[str, ...]) -> tuple[Cell, ...]:
    """Returns the cells of some networks, with planes of some of them."""
    return tuple(
        Cell(
            row,
            column,
            {},
            metric,
            PUBLISHED[row] if column == ERROR else None,
            run=run,
            variant=f"depth={DEPTHS[row]}",
        )
        for row in rows
        for run, columns in ((NUMBERS, METRICS), (PLANE, OF_PLANES if row in planes else {}))
        for column, metric in columns.items()
    )


TABLE = Table(
    title="Published ResNets for CIFAR-10 (lossless subset): the surface around their weights",
    source="Li et al. (2018), Fig. 5 and Sec. 5",
    published_size="four published ResNets, on at most 1,000 images",
    config=CONFIG,
    cells=_cells(tuple(DEPTHS), (SHALLOW, DEEP)),
    headline=("low_regions_are_convex", "sharpness_ranks_test_errors"),
    data_files=(
        "cifar10/lossless_subset.npz",
        *(f"cifar10_resnets/resnet{depth}.npz" for depth in DEPTHS.values()),
    ),
    notes=(
        "Weights: github.com/akamaster/pytorch_resnet_cifar10, whose shortcuts pad with zeros; the "
        "paper's networks have projections. All numbers are of the lossless subset of CIFAR-10: "
        "test errors of its 1,000 test images, training losses of 1,000 of its 4,000 training "
        "images. Published errors are those of the weights, on 10,000 test images, and not the "
        "paper's.",
        "A seed draws directions and probes, and takes other training images where the preset has "
        "fewer than 1,000: the weights are always the same.",
        "Sharpness: mean of d'Hd over filter-normalized directions d, by Hutchinson's estimator; "
        "largest eigenvalue of the same Hessian, over the filters. Width: length of the interval "
        "around the weights in which the training loss is below 0.1, on lines along random "
        "filter-normalized directions from -0.5 to 0.5, mean over three.",
        "Planes: as in table depth; at losses below 4: of the points of the grid all of whose "
        "neighbors have such a loss, too. Core hours: processor time of one evaluation, measured, "
        "times the number of points.",
    ),
    reasons={
        "sharpness_ranks_test_errors": f"The means are in this order, but {FEW}.",
        "eigenvalues_rank_test_errors": f"The means are in this order, but {FEW}.",
        "wide_minima_generalize": "The means are in this order; steps of one network to the next "
        "are within two standard errors.",
        "depth_with_shortcuts_keeps_convexity": OUTSIDE,
        "surfaces_with_shortcuts_are_convex": OUTSIDE,
        "contours_are_alike": "The contour of ResNet-56 is the wider one, by 44 %.",
    },
)
# One pair of directions: nothing of three seeds is known there. On the full grid the plane of the
# deepest one takes hours of a core more than that of the first: `half` has both, on a coarser grid
# over fewer images.
OF_ONE_PAIR = (
    surfaces_with_shortcuts_are_convex,
    low_regions_are_convex,
    weights_are_the_published_ones,
    sharpness_is_measured,
)
FAR_OUT = {
    "surfaces_with_shortcuts_are_convex": "Most of what is not convex lies where the loss is "
    "above 4.",
}
TABLE = TABLE._replace(
    at={
        "half": TABLE._replace(
            published_size="two published ResNets, a coarser grid, fewer images",
            seeds=(0,),
            cells=_cells((SHALLOW, DEEP), (SHALLOW, DEEP)),
            claims=(*OF_ONE_PAIR, contours_are_alike),
            headline=("low_regions_are_convex",),
            reasons={**FAR_OUT, "contours_are_alike": "The contour of ResNet-56 is the wider one."},
        ),
        "fine": TABLE._replace(
            published_size="a published ResNet-20, the paper's grid, 1,000 images",
            seeds=(0,),
            cells=_cells((SHALLOW,), (SHALLOW,)),
            claims=OF_ONE_PAIR,
            headline=("low_regions_are_convex",),
            reasons=FAR_OUT,
        ),
    }
)
