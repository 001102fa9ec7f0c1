"""The tables of the paper by name."""

from common.tables import Table

TABLES: dict[str, Table] = {}
