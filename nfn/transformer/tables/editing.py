"""Table "editing" as data: cells and claims; no published number of it could be verified."""

from collections.abc import Iterator
from typing import Any

from common.aggregates import Results
from common.comparisons import beats, below, every, not_worse
from common.tables import Cell, Table, by_last_comma
from common.verdicts import CHECK, PAPER, Verdict, claim
from nfn.tasks.tables import EDITING, EDITING_ERROR, permuted, permuted_note

NFN_CONFIG = "nfn/equivariant/configs/editing.py"
DO_NOTHING, NFT = "Do nothing", "NFT"
NFN_ROWS = {"NFN_PT": "pt", "NFN_HNP": "hnp", "NFN_NP": "np"}
NO_NEURONS, NO_TENSORS = "NFT, no attention in layers", "NFT, no attention among tensors"
ABLATIONS: dict[str, dict[str, Any]] = {
    NO_NEURONS: {"model.use_neurons": False},
    NO_TENSORS: {"model.use_tensors": False},
}
EDITS = ("dilate", "erode", "gradient", "contrast")
ABLATED = "erode"
PERMUTED = permuted(ABLATED)


@claim()
def attention_beats_np(results: Results) -> Verdict:
    """NFT beats NFN_NP on dilation, erosion and gradient by over two standard errors."""
    edits = ("dilate", "erode", "gradient")
    return every(beats, results, NFT, "NFN_NP", on=edits, lower=True)


@claim(PAPER, "abstract")
def attention_is_never_worse_than_np(results: Results) -> Verdict:
    """On no edit NFT is worse than NFN_NP by more than two standard errors."""
    return every(not_worse, results, NFT, "NFN_NP", on=EDITS, lower=True)


@claim(CHECK)
def all_beat_doing_nothing(results: Results) -> Verdict:
    """On every edit NFT, NFN_NP, NFN_HNP and NFN_PT beat doing nothing by two standard errors."""
    return every(beats, results, (NFT, *NFN_ROWS), DO_NOTHING, on=EDITS, lower=True)


@claim()
def attention_in_layers_matters_most(results: Results) -> Verdict:
    """On erosion NFT without attention in layers is worse than NFT, and than it without the other.

    By over two standard errors; the other is the attention among tensors.
    """
    return every(beats, results, (NFT, NO_TENSORS), NO_NEURONS, on=ABLATED, lower=True)


@claim(CHECK)
def permuting_changes_nothing(results: Results) -> Verdict:
    """Permuting hidden neurons moves no pixel of NFT's erosion: mean square change below 1e-8."""
    return below(results[NFT, PERMUTED], 1e-8)


def _cells() -> Iterator[Cell]:
    for edit in EDITS:
        like = {"data.edit": edit, "model.kind": "np"}  # reports the untouched networks too
        metric = "test_do_nothing_mse"
        yield Cell(DO_NOTHING, edit, like, metric, config=NFN_CONFIG)
        for row, kind in NFN_ROWS.items():
            overrides = {"data.edit": edit, "model.kind": kind}
            yield Cell(row, edit, overrides, "test_mse", config=NFN_CONFIG)
        yield Cell(NFT, edit, {"data.edit": edit}, "test_mse")
    for row, overrides in ABLATIONS.items():
        yield Cell(row, ABLATED, {"data.edit": ABLATED, **overrides}, "test_mse")
    yield Cell(NFT, PERMUTED, {"data.edit": ABLATED}, "permuted_change")


TABLE = Table(
    title=EDITING,
    source="Zhou et al. (2023), Neural Functional Transformers, INR editing",
    config="nfn/transformer/configs/editing.py",
    cells=tuple(_cells()),
    reasons={
        "attention_beats_np": "On erosion NFT differs more from seed to seed than NFN_NP does; "
        "three seeds are too few to tell the two apart there.",
    },
    headline=("attention_is_never_worse_than_np", "attention_beats_np"),
    split=by_last_comma,
    notes=(
        "The paper's numbers could not be read, so none are printed; NFN are the layers of the "
        "authors' paper before it, trained on the same SIRENs (Table 6 of nfn.equivariant).",
        EDITING_ERROR,
        "NFT and NFN_NP see the same batches for as many steps; a step of NFT costs about three "
        "times as much.",
        permuted_note(PERMUTED),
    ),
    repeat={"NFT": ("dilate",)},
)
