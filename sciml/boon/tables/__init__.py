"""The tables of the paper by name; its own could not be read, so ours have names of their own."""

from common.tables import named
from sciml.boon.tables import clipped, multi_step, released, resolution, shift, single_step

TABLES = named(
    {
        "single_step": single_step,
        "multi_step": multi_step,
        "resolution": resolution,
        "shift": shift,
        "released": released,
        "clipped": clipped,
    }
)
