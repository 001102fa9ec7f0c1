"""The tables of the paper by name."""

from common.tables import named
from finetune.surgical.tables import shifts, theory

TABLES = named({"shifts": shifts, "theory": theory})
