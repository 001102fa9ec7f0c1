"""Size curve of INR2ARRAY as data: accuracy from its arrays, by steps of the encoder.

The claims were written when table classification had shown what 2,000 and 6,000 steps give. Sizes
were 500 to 4,000 steps until the first run was done, and were halved then for lack of time.
"""

from collections.abc import Iterator

from common.aggregates import Results
from common.comparisons import all_of, beats
from common.curves import Along, Curve, fits, is_narrow, reaches
from common.tables import Cell, Table
from common.verdicts import Verdict, claim
from nfn.transformer.configs.inr2array import get_config
from nfn.transformer.tables.classification import LONG, NFT, PAPER_TEST

CPU, PAPER = get_config("cpu"), get_config("paper")
STEPS = (250, 500, 1_000, 2_000)
COLUMNS = {"test %": "test_accuracy", "test MSE": "encoder_test_mse"}
FAMILIES = {"test %": "classifying arrays", "test MSE": "redrawing from arrays"}
# Steps of batches as large as ours, so that as many networks are read.
PAPER_STEPS = PAPER.num_steps * PAPER.batch_size / CPU.batch_size


def _column(steps: int, what: str = "test %") -> str:
    return f"{steps} steps, {what}"


CURVE = Curve(
    NFT,
    best=100,
    published=PAPER_TEST[NFT],
    along=(
        Along(
            "steps",
            {steps: (NFT, _column(steps)) for steps in STEPS},
            at=PAPER_STEPS,
            centre=CPU.num_steps,
        ),
    ),
)


@claim()
def steps_help(results: Results) -> Verdict:
    """Each doubling of the steps gives better pictures and answers, by two standard errors."""
    pairs = list(zip(STEPS[1:], STEPS, strict=False))
    return all_of(
        *(_beats(results, more, fewer, "test MSE", lower=True) for more, fewer in pairs),
        *(_beats(results, more, fewer, "test %") for more, fewer in pairs),
    )


@claim()
def curve_fits(results: Results) -> Verdict:
    """The curve passes its means as closely as the spread of seeds allows (p > 0.05)."""
    return fits(CURVE, results)


@claim()
def it_reaches_the_paper(results: Results) -> Verdict:
    """With the paper's steps of the encoder the interval holds the published accuracy."""
    return reaches(CURVE, results)


@claim()
def curve_says_something(results: Results) -> Verdict:
    """With the paper's steps of the encoder the interval is narrower than 10 points."""
    return is_narrow(CURVE, results, 10)


def _beats(results: Results, more: int, fewer: int, what: str, *, lower: bool = False) -> Verdict:
    return beats(results[NFT, _column(more, what)], results[NFT, _column(fewer, what)], lower=lower)


def _cells() -> Iterator[Cell]:
    for what, metric in COLUMNS.items():
        for steps in STEPS:
            yield Cell(NFT, _column(steps, what), {"encoder.num_steps": steps}, metric)


def _split(column: str) -> tuple[str, str]:
    steps, what = column.split(" steps, ")
    return FAMILIES[what], f"{steps} steps"


TABLE = Table(
    title="Size curve: classifying images by arrays of their SIRENs, by steps of the encoder",
    source="Zhou et al. (2023), Neural Functional Transformers, as re-reported in arXiv 2607.02166",
    config="nfn/transformer/configs/inr_classification.py",
    cells=tuple(_cells()),
    reasons={
        "it_reaches_the_paper": "Steps are one size of several: an array of ours has a "
        "sixteenth of the numbers of the paper's, from an encoder with an eighth of its channels, "
        "and the curve says that steps alone do not make up for it.",
        "curve_says_something": "Four sizes over less than a decade fix neither floor nor "
        "exponent, and the paper's steps are two hundred times the most of them.",
    },
    headline=("curve_fits", "it_reaches_the_paper", "curve_says_something"),
    split=_split,
    paper_spread="as printed in arXiv 2607.02166",
    drawn_from_cells=True,
    curves=(CURVE,),
    notes=(
        "No published value is of these sizes; the paper's stands beside the curve.",
        f"The networks of table classification ({CPU.model.channels} channels), batches of "
        f"{CPU.batch_size}, a cosine schedule over each length; the classifier of arrays is the "
        "same at all.",
        "by size curves: 100 - accuracy = floor + amplitude / steps^exponent, fitted to the means "
        "over seeds. In brackets: nine of ten draws of a bootstrap over runs. The interval knows "
        "the spread of seeds. It does not know whether the law goes on over a hundredfold, nor "
        f"what else the paper does: {PAPER.model.channels} channels, "
        f"{PAPER.model.num_latents} x {PAPER.model.latent_width} numbers of an array, eleven "
        "fits of every image, a longer and wider classifier.",
        f"A check from outside: what table classification reaches with {LONG:,} steps lies within "
        "the interval of the curve there, above its middle.",
    ),
)
