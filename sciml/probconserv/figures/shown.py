"""What the figures share: colors of the rows, and trained networks that answer for time slices."""

import jax
import numpy as np

from common.figures import RunDirectories, first_run
from sciml.pdes.conservation import LAWS, ConservationLaw
from sciml.probconserv import data as data_sets
from sciml.probconserv.measure import Predicted
from sciml.probconserv.rows import ANP, BOTH, DIFFUSED, HARD, LOCAL, PROBCONSERV, SOFT, WITHIN

COLORS = {
    ANP: "#9a9a9a",
    SOFT: "#6aa56e",
    HARD: "#e08a3c",
    PROBCONSERV: "#2f6db3",
    DIFFUSED: "#7fb0e0",
    LOCAL: "#6b4c9a",
    WITHIN: "#d9b38c",
    BOTH: "#173a63",
}


class Network:
    """The trained network of a table, the first of its seeds."""

    def __init__(self, run_directories: RunDirectories):
        self._run = first_run(run_directories, ANP)
        config = self._run.config
        self.spec = data_sets.data_spec(config.data, config.constraint.cells)

    @property
    def law(self) -> ConservationLaw:
        """Returns the conservation law that it was trained on."""
        return LAWS[self.spec.name]

    @property
    def x(self) -> np.ndarray:
        """Returns the places of a slice."""
        return np.linspace(*self.law.domain, self.spec.points)

    def slices(self, param: float, time: float | None = None) -> data_sets.Slices:
        """Returns test functions of a parameter at a time, by default when the paper compares."""
        time = self.law.report_time if time is None else time
        return data_sets.slices_at(param, time, spec=self.spec)

    def predict(self, slices: data_sets.Slices) -> Predicted:
        """Returns what every method predicts on the slices."""
        return jax.tree.map(np.asarray, self._run.predict(slices))
