"""Predictions with dropout on as data."""

from common.tables import Table, by_last_comma
from sciml.probconserv.rows import (
    ANP,
    CE,
    CONFIG,
    DIFFUSED,
    HARD,
    LL,
    MSE,
    NOT_READ,
    PME,
    PROBCONSERV,
    STEFAN,
    better,
    cells,
    some,
)

TABLE = Table(
    title="Stefan problem and PME with dropout on in prediction, as in the released code",
    source="Hansen et al. (2023); a setting that its text may not mention",
    config=CONFIG,
    cells=tuple(
        cell
        for pde, title, params in (("stefan", "Stefan ", STEFAN), ("pme", "PME ", PME[:2]))
        for cell in cells(
            pde,
            params,
            (CE, LL, MSE),
            rows=some(ANP, HARD, PROBCONSERV, DIFFUSED),
            prefix="dropout_",
            title=title,
        )
    ),
    claims=(
        better(
            "ll_better_than_anp",
            PROBCONSERV,
            ANP,
            LL,
            [f"Stefan {p}" for p in STEFAN],
            "ProbConserv-ANP has a higher LL than ANP with dropout on too, for both u*.",
        ),
    ),
    split=by_last_comma,
    notes=(
        NOT_READ,
        "Every draw of z has dropout masks of its own; all other tables have dropout off.",
    ),
)
