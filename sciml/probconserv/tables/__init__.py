"""The tables of the paper: one for each conservation law, and what else its text compares."""

from common.tables import named
from sciml.probconserv.tables import bounds, calibration, dropout, laws, precision, shock, size

TABLES = named(
    {
        **laws.TABLES,
        "shock": shock,
        "calibration": calibration,
        "dropout": dropout,
        "precision": precision,
        "bounds": bounds,
        "size": size,
    }
)
