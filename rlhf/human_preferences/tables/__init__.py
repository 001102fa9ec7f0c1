"""The tables of the paper by name."""

from common.tables import named

TABLES = named({})
