"""The experiments of the paper: networks before the shift, and their adaptation behind it."""

from finetune.surgical.adaptation import adapt
from finetune.surgical.sources import source

EXPERIMENTS = {"source": source, "adapt": adapt}
