"""Loading a run: the best state (or another), on one device, with what its experiment can do.

Importing this module does not import JAX.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

from common.checkpoints import manifest
from common.errors import DataError, UserError
from common.run_folders import trust
from common.run_folders.locate import locate
from common.run_folders.records import Run, read
from common.seeds import in_words, is_group, seeds_of

if TYPE_CHECKING:
    from common.checkpoints.checkpoint import Checkpoints
    from common.experiment import Experiment

PyTree = Any


class Loaded(NamedTuple):
    """A run made ready for use: the best state (or another) and the functions of its experiment.

    Attributes:
        state: The state on the devices, of this `step`; `state.params` are the parameters.
        data: The experiment's data on the devices.
        path: The run folder.
        row: Of a member of a seed group its row in saved states, else None.
    """

    config: ConfigDict
    experiment: "Experiment"
    step: int
    state: PyTree
    data: PyTree
    path: Path = Path()
    row: int | None = None

    def __repr__(self) -> str:
        return f"<{self.config.experiment}, seed {self.config.seed}, step {self.step}>"

    def evaluate(self) -> dict[str, Any]:
        """Returns the metrics of `evaluate` and `final`, as the run's result.json has them."""
        from common.keys import root_key
        from common.loop import program

        functions = [self.experiment.evaluate, self.experiment.final]
        key = root_key(self.config)
        values: dict[str, Any] = {}
        for function in functions:
            if function is not None:
                values.update(program.evaluate(function, self.state, self.data, key))
        return values

    def predict(self, inputs: PyTree) -> PyTree:
        """Returns the outputs of the trained model for new inputs.

        Raises:
            UserError: If the experiment does not say how to predict.
        """
        import jax

        predict = self.experiment.predict
        if predict is None:
            raise UserError(f"{self.config.experiment}: its Experiment has no `predict`")
        return jax.jit(predict)(self.state, self.data, inputs)

    def member(self, seed: int | None) -> "Loaded":
        """Returns one seed of a seed group as a run of its own; of any other run that run.

        Raises:
            UserError: If there are several seeds and none is named, or it is none of them.
        """
        import jax

        from common.experiment import build

        seeds, said = seeds_of(self.config), f"{self.path}: has {in_words(self.config)}"
        if seed is not None and seed not in seeds:
            raise UserError(f"{said}, not seed {seed}")
        if not is_group(self.config):
            return self
        if seed is None:
            raise UserError(f"{said}: name one of them")
        fields = {**self.config.to_dict(), "seed": seed, "seed_group": 1}
        config, row = ConfigDict(fields).lock(), seeds.index(seed)
        state = jax.tree.map(lambda leaf: leaf[row], self.state)
        return Loaded(config, build(config), self.step, state, self.data, self.path, row)

    def steps(self) -> tuple[int, ...]:
        """Returns the steps of all checkpoints that are there, ascending."""
        return manifest.steps(self.path / "checkpoints")

    def state_at(self, step: int) -> PyTree:
        """Returns the state of another checkpoint of the run.

        Raises:
            DataError: If there is no such checkpoint, or it is damaged.
        """
        import jax

        from common.checkpoints.checkpoint import Checkpoints

        group = () if self.row is None else (len(seeds_of(read(self.path).config)),)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*group, *leaf.shape), leaf.dtype), self.state
        )
        with Checkpoints(self.path / "checkpoints", read_only=True) as checkpoints:
            restored = checkpoints.restore(shapes, step=step)
        if restored is None:
            raise DataError(f"{self.path}: has no valid checkpoint of step {step}")
        row = self.row
        return restored.state if row is None else jax.tree.map(lambda x: x[row], restored.state)


def load(path: str | Path, step: Any = "best", *, allow_changed_code: bool = False) -> Loaded:
    """Returns a run's state with everything to evaluate it or to predict.

    Args:
        path: Run folder, or its hash below the folder `runs` (`common.run_folders.locate`).
        step: "best" (the last if the run has no best), "last", or the number of a checkpoint.
        allow_changed_code: Whether code that has changed since is only warned of.

    Raises:
        UserError: If it is no run folder, or its code has changed.
        DataError: If there is no such checkpoint, it is corrupt, config.json was edited, or the
            data are not those of the run.
    """
    import jax
    import numpy as np

    from common import sharding
    from common.checkpoints.checkpoint import Checkpoints
    from common.experiment import build
    from common.loop import program, stops

    run = read(locate(str(path)))
    trust.check_unchanged(run, allow_changed_code=allow_changed_code)
    experiment = build(run.config)
    mesh = sharding.make_mesh({"data": 1}, jax.local_devices()[:1])
    host_data = jax.tree.map(np.asarray, experiment.data())
    # Rules are about many devices; here everything lies whole on one.
    layout = program.layout(experiment._replace(rules=()), run.config, mesh, data=host_data)
    with Checkpoints(run.path / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore(layout.state, step=chosen_step(run, checkpoints, step))
    if restored is None:
        raise DataError(f"{run.path}: has no valid checkpoint")
    stops.require_data_of_run(run.path, restored.extra, host_data, experiment)
    data = sharding.place(host_data, jax.tree.map(lambda leaf: leaf.sharding, layout.data))
    return Loaded(run.config, experiment, restored.step, restored.state, data, run.path)


class History:
    """The states of a run from its beginning, each restored when it is asked for by its place.

    Attributes:
        steps: Of each state: 0, unless the run began from the weights of another one, and every
            checkpoint that was kept (`config.keep`).
    """

    def __init__(self, path: Path, layout: Any, begin: Callable[[], PyTree] | None) -> None:
        from common.checkpoints.checkpoint import Checkpoints

        self._folder, self._layout, self._begin = path / "checkpoints", layout, begin
        with Checkpoints(self._folder, read_only=True) as checkpoints:
            self.steps = (*((0,) if begin else ()), *checkpoints.steps())

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int, /) -> PyTree:
        from common.checkpoints.checkpoint import Checkpoints

        step = self.steps[index]
        if step == 0 and self._begin:
            return self._begin()
        with Checkpoints(self._folder, read_only=True) as checkpoints:
            restored = checkpoints.restore(self._layout.state, step=step)
        assert restored is not None  # of a numbered step: it is there, or an error says why not
        return restored.state


def history(path: str | Path, *, allow_changed_code: bool = False) -> History:
    """Returns the states of a run from its beginning to its end, on one device.

    Args:
        path: Run folder, or its hash, as for `load`.
        allow_changed_code: Whether code that has changed since is only warned of.

    Raises:
        UserError: If it is no run folder, or its code has changed.
    """
    import jax

    from common import sharding
    from common.experiment import build
    from common.loop import program

    run = read(locate(str(path)))
    trust.check_unchanged(run, allow_changed_code=allow_changed_code)
    experiment = build(run.config)._replace(rules=())
    mesh = sharding.make_mesh({"data": 1}, jax.local_devices()[:1])
    layout = program.layout(experiment, run.config, mesh)

    def begin() -> PyTree:
        key = program.place_key(run.config, mesh)
        return program.lower_init(experiment, layout).compile()(key)

    return History(run.path, layout, None if run.config.init_from else begin)


def chosen_step(run: Run, checkpoints: "Checkpoints", step: Any) -> Any:
    """Returns what `Checkpoints.restore` is asked for: of a run without a best step the last."""
    if step != "best":
        return step
    # Of a complete run the step that its result names.
    best = run.result.get("best_step") if run.result else checkpoints.best_step()
    return "last" if best is None else best
