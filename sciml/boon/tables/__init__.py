"""The tables of the paper by name; its own could not be read, so ours have names of their own."""

from sciml.boon.tables import multi_step, resolution, single_step

TABLES = {table.name: table for table in (single_step.TABLE, multi_step.TABLE, resolution.TABLE)}
