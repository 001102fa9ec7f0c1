"""The tables of the paper: one for each conservation law, and what else its text compares."""

from sciml.probconserv.tables import calibration, dropout, laws, precision, shock

TABLES = {
    table.name: table
    for table in (
        *laws.TABLES,
        shock.TABLE,
        calibration.TABLE,
        dropout.TABLE,
        precision.TABLE,
    )
}
