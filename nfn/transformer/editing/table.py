"""Table "editing" as data: cells and claims; no published number of it could be verified."""

from typing import Any

from common.aggregates import Results
from common.tables import Cell, Table, by_last_comma
from common.verdicts import (
    CHECK,
    PAPER,
    Verdict,
    all_of,
    beats,
    below,
    claim,
    not_worse,
)

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
PERMUTED = f"{ABLATED}, change by permuting"


@claim()
def attention_beats_np(results: Results) -> Verdict:
    """NFT beats NFN_NP on dilation, erosion and gradient by over two standard errors."""
    return all_of(
        *(
            beats(results[NFT, edit], results["NFN_NP", edit], lower=True)
            for edit in ("dilate", "erode", "gradient")
        )
    )


@claim(PAPER, "abstract")
def attention_is_never_worse_than_np(results: Results) -> Verdict:
    """On no edit NFT is worse than NFN_NP by more than two standard errors."""
    verdicts = []
    for edit in EDITS:
        verdicts.append(not_worse(results[NFT, edit], results["NFN_NP", edit], lower=True))
    return all_of(*verdicts)


@claim(CHECK)
def all_beat_doing_nothing(results: Results) -> Verdict:
    """On every edit NFT, NFN_NP, NFN_HNP and NFN_PT beat doing nothing by two standard errors."""
    return all_of(
        *(
            beats(results[row, edit], results[DO_NOTHING, edit], lower=True)
            for edit in EDITS
            for row in (NFT, *NFN_ROWS)
        )
    )


@claim()
def attention_in_layers_matters_most(results: Results) -> Verdict:
    """On erosion NFT without attention in layers is worse than NFT, and than it without the other.

    By over two standard errors; the other is the attention among tensors.
    """
    worst = results[NO_NEURONS, ABLATED]
    return all_of(
        beats(results[NFT, ABLATED], worst, lower=True),
        beats(results[NO_TENSORS, ABLATED], worst, lower=True),
    )


@claim(CHECK)
def permuting_changes_nothing(results: Results) -> Verdict:
    """Permuting hidden neurons moves no pixel of NFT's erosion: mean square change below 1e-8."""
    return below(results[NFT, PERMUTED], 1e-8)


def _cells() -> tuple[Cell, ...]:
    cells = []
    for edit in EDITS:
        like = {"data.edit": edit, "model.kind": "np"}  # reports the untouched networks too
        metric = "test_do_nothing_mse"
        cells.append(Cell(DO_NOTHING, edit, like, metric, config=NFN_CONFIG))
        for row, kind in NFN_ROWS.items():
            overrides = {"data.edit": edit, "model.kind": kind}
            cells.append(Cell(row, edit, overrides, "test_mse", config=NFN_CONFIG))
        cells.append(Cell(NFT, edit, {"data.edit": edit}, "test_mse"))
    for row, overrides in ABLATIONS.items():
        cells.append(Cell(row, ABLATED, {"data.edit": ABLATED, **overrides}, "test_mse"))
    cells.append(Cell(NFT, PERMUTED, {"data.edit": ABLATED}, "permuted_change"))
    return tuple(cells)


TABLE_EDITING = Table(
    name="editing",
    title="Editing images by the weights of SIRENs fitted to them: mean square error",
    source="Zhou et al. (2023), Neural Functional Transformers, INR editing",
    config="nfn/transformer/configs/editing.py",
    cells=_cells(),
    seeds=(0, 1, 2),
    claims=(
        attention_beats_np,
        attention_is_never_worse_than_np,
        all_beat_doing_nothing,
        attention_in_layers_matters_most,
        permuting_changes_nothing,
    ),
    reasons={
        "attention_beats_np": "On erosion NFT differs more from seed to seed than NFN_NP does; "
        "three seeds are too few to tell the two apart there.",
    },
    headline=("attention_is_never_worse_than_np", "attention_beats_np"),
    split=by_last_comma,
    notes=(
        "The paper's numbers could not be read, so none are printed; NFN are the layers of the "
        "authors' paper before it, trained on the same SIRENs (Table 6 of nfn.equivariant).",
        "Mean square over pixels of the test images in the [-1, 1] scale, for the checkpoint with "
        "the best validation error. Do nothing: the untouched networks.",
        "NFT and NFN_NP see the same batches for as many steps; a step of NFT costs about three "
        "times as much.",
        f"{PERMUTED}: mean square difference of the pixels shown when the hidden neurons of the "
        "test networks are put in a random order first.",
    ),
    figures="nfn.transformer.figures.editing:draw",
)
