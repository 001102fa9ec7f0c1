"""The tables of the paper by name; its own could not be read, so ours have names of their own."""

from sciml.boon.multi_step_table import TABLE_MULTI_STEP
from sciml.boon.single_step_table import TABLE_RESOLUTION, TABLE_SINGLE_STEP

TABLES = {
    "single_step": TABLE_SINGLE_STEP,
    "multi_step": TABLE_MULTI_STEP,
    "resolution": TABLE_RESOLUTION,
}
