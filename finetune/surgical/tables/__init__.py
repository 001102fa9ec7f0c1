"""The tables of the paper by name."""

from common.tables import named
from finetune.surgical.tables import (
    block_noise,
    diagnosis,
    few_shot,
    methods,
    published,
    shifts,
    theory,
    unsupervised,
)

TABLES = named(
    {
        "shifts": shifts,
        "published": published,
        "few_shot": few_shot,
        "block_noise": block_noise,
        "methods": methods,
        "diagnosis": diagnosis,
        "theory": theory,
        "unsupervised": unsupervised,
    }
)
