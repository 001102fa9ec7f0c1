"""The only training loop: any Experiment becomes a sharded, checkpointed, resumable run."""

import contextlib
import threading
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from common import contract, metric_names, sharding
from common.checkpoints import manifest
from common.checkpoints.checkpoint import Checkpoints, Restored, orbax
from common.config import canonical_json, config_hash
from common.devices import distributed, memory
from common.devices.interrupts import first_signal, saved
from common.errors import DataError, Interrupted
from common.evaluation import means, strange_labels
from common.experiment import Experiment, Outside
from common.files.json_files import write_json
from common.fingerprint import Fingerprint, fingerprint, from_record, to_record
from common.loop import outside, program, stops, warm_start
from common.loop.meanwhile import Make, Meanwhile
from common.loop.metrics import open_logs
from common.loop.run_results import FitResult, write_results
from common.progress import Progress
from common.provenance import source
from common.provenance.places import relative_to_run
from common.run_folders.records import claim, record_environment
from common.run_folders.trust import WEIGHTS, began_with, check_weights, finished

PyTree = Any
Values = dict[str, Any]  # floats; of a seed group, lists with one float per seed


class Best(NamedTuple):
    """The best evaluation so far."""

    step: int
    value: float


class _Start(NamedTuple):
    """Where a run begins, or goes on: the state after `step` steps, `seconds` of work so far."""

    state: PyTree
    step: int = 0
    best: Best | None = None
    seconds: float = 0.0


class _Run(NamedTuple):
    """Everything of a run that does not change while it runs."""

    experiment: Experiment
    config: ConfigDict
    layout: program.Layout
    data: PyTree
    fingerprint: Fingerprint  # of the data
    code: source.Code
    origin: dict[str, Any]  # which weights it began from, {} for its own
    key: jax.Array
    step: Any  # compiled
    meanwhile: Meanwhile
    left: int | None  # bytes of memory before anything ran
    evaluate: Make  # gives the compiled program
    first_nan: Any  # compiled
    final: Make | None  # gives the lowered program: it is compiled when all else is done
    undefined: stops.Undefined
    outside: Outside | None
    checkpoints: Checkpoints
    logs: Sequence[Any]  # the first is the JSON-lines log; none but in the lead process

    def made_of(self) -> dict[str, Any]:
        """Returns what checkpoints and result.json say of its code and of where it began."""
        return {**self.code.record(), **self.origin}


def fit(
    experiment: Experiment,
    config: ConfigDict,
    run_directory: str | Path,
    *,
    tensorboard: bool = False,
    wandb: bool = False,
    command: Sequence[str] = (),
    allow_changed_code: bool = False,
) -> FitResult:
    """Trains `experiment` to `config.num_steps`, from its newest valid checkpoint if there is one.

    Args:
        experiment: The pure functions, as `common.experiment.build(config)` returns them.
        config: The locked config of the run.
        run_directory: Where config, metrics, checkpoints and result.json go.
        tensorboard: Also write TensorBoard event files.
        wandb: Also log to Weights & Biases.
        command: The command line, recorded in environment.json.
        allow_changed_code: Go on with a run that other code began, with a warning; of one that is
            finished, compute the metrics again.

    Returns:
        The metrics of the last and of the best state.

    Raises:
        UserError: If batches differ in shape, the mesh or the code does not fit, or it is locked.
        NumericalError: At the first step whose loss, or checkpoint whose state, is not finite.
        DataError: If storage is full, corrupt or not writable; older checkpoints are intact.
        Interrupted: After a signal that stops (`devices.interrupts`), once the state is saved.
    """
    directory = Path(run_directory).absolute()  # the caller's data may change the working directory
    code = source.Code(source.digests(config), allow_changed_code)
    if (done := _finished(directory, config, code)) is not None:
        return done
    contract.check_batches(experiment.batch, config.num_steps)
    code = _going_on(directory, config, code)
    started = time.monotonic()
    mesh = program.mesh_of(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(claim(directory))
        # Several processes stop together, at a step; one alone ends at once up to its first.
        stop = None if distributed.is_single() else stack.enter_context(first_signal())
        if distributed.is_lead():
            _write_start(directory, config, command)
        run, start = _prepare(
            experiment, config, directory, mesh, stack, code, tensorboard=tensorboard, wandb=wandb
        )
        started -= start.seconds
        stop = stop or stack.enter_context(first_signal())
        state, best = _loop(run, start, stop, started)
        if distributed.is_single():  # nothing can be lost now: a long evaluation ends at once
            stack.enter_context(saved(_stopped(config.num_steps, config)))
        metrics = _final_metrics(run, state, best)
        best_step = best.step if best else None
        result = FitResult("complete", config.num_steps, best_step, metrics, state)
        if distributed.is_lead():
            data, seconds = (run.fingerprint, experiment.describe()), time.monotonic() - started
            write_results(directory, config, result, seconds, run.made_of(), *data)
    return result


def _prepare(
    experiment: Experiment,
    config: ConfigDict,
    directory: Path,
    mesh: jax.sharding.Mesh,
    stack: contextlib.ExitStack,
    code: source.Code,
    *,
    tensorboard: bool,
    wandb: bool,
) -> tuple[_Run, _Start]:
    """Compiles, and restores the newest checkpoint or initializes."""
    host_data = program.host_data(experiment)
    layout = program.layout(experiment, config, mesh, data=host_data)
    data = sharding.place(host_data, jax.tree.map(lambda x: x.sharding, layout.data))
    left = memory.left()
    lower = partial(program.lower_evaluate, layout=layout)
    evaluate = cache(partial(lower, experiment.evaluate))
    if config.best_metric:
        stops.require_best_metric(config.best_metric, list(evaluate().out_info))
    compiled = program.lower_step(experiment, config, layout).compile()
    program.check_memory(compiled, mesh.local_devices, left)
    checkpoints = stack.enter_context(Checkpoints(directory / "checkpoints", keep_last=config.keep))
    restored = checkpoints.restore(layout.state)
    if restored is not None:
        stops.require_notes(directory, restored.step, restored.extra)
    key = program.place_key(config, mesh)
    logs = _open_logs(directory, restored, config, tensorboard=tensorboard, wandb=wandb)
    for log in logs:
        stack.callback(log.close)
    found = fingerprint(host_data, experiment.identity() if experiment.identity else None)
    if restored is None:
        state = program.lower_init(experiment, layout).compile()(key)
        state, origin = warm_start.warm_start(state, config, code.may_change)
        start = _Start(state)
    else:
        stops.require_same_data(from_record(restored.extra), found)
        start, origin = _continued(restored, config)
    meanwhile = stack.enter_context(contextlib.closing(Meanwhile()))
    meanwhile.make(orbax)  # for the first checkpoint
    run = _Run(
        experiment=experiment,
        config=config,
        layout=layout,
        data=data,
        fingerprint=found,
        code=code,
        origin=origin,
        key=key,
        step=compiled,
        meanwhile=meanwhile,
        left=left,
        evaluate=meanwhile.make(lambda: program.compile_evaluate(evaluate(), layout, left)),
        first_nan=program.lower_first_nan(layout).compile(),
        final=meanwhile.make(partial(lower, experiment.final)) if experiment.final else None,
        undefined=stops.Undefined(config.best_metric),
        outside=stack.enter_context(outside.opened(experiment, config, directory)),
        checkpoints=checkpoints,
        logs=logs,
    )
    return run, start


def _loop(
    run: _Run, start: _Start, stop: threading.Event, started: float
) -> tuple[PyTree, Best | None]:
    config, k, state, best = run.config, run.config.steps_per_call, start.state, start.best
    label, is_lead = f"{config.experiment} seed {config.seed}", distributed.is_lead()
    progress = Progress(config.num_steps, start=start.step, label=label, enabled=is_lead)
    pending: tuple[int, Any] | None = None
    with contextlib.closing(progress):
        for step in range(start.step, config.num_steps, k):
            batch = program.stack_batches(run.experiment, config, step)
            batch = outside.batch_of(run.outside, batch, step, state, stop.is_set)
            if _asked_to_stop(stop, config, step):
                if pending is not None:
                    _consume(run, pending, state, progress)
                if step not in run.checkpoints.steps():
                    _save(run, step, state, best, False, started)
                run.checkpoints.wait()
                raise Interrupted(_stopped(step, config))
            batches = program.place_batches(batch, run.layout)
            state, metrics = run.step(state, run.data, batches, run.key, np.int32(step))
            run.meanwhile.check()
            # Metrics are fetched one call late, so that the device never waits for the host.
            if pending is not None:
                _consume(run, pending, state, progress)
            pending, end = (step, metrics), step + k
            evaluates = end == config.num_steps or _is_due(config.eval_every, end)
            if evaluates or _is_due(config.checkpoint_every, end):
                _consume(run, pending, state, progress)
                pending, is_best = None, False
                if evaluates:
                    stops.require_finite_state(state, run.first_nan, end)
                    values = _evaluate(run, run.evaluate(), state)
                    run.undefined.note(values, end, partial(_labels, run, state))
                    _write(run, end, "eval", values)
                    best, is_best = _improve(best, end, values, config.best_metric)
                due = end == config.num_steps or _is_due(config.checkpoint_every, end)
                if is_best or due or run.undefined.labels:
                    _save(run, end, state, best, is_best, started)
                if run.undefined.labels:
                    run.checkpoints.wait()
                    stops.refuse_strange_labels(run.undefined, end)
    run.checkpoints.wait()
    if _asked_to_stop(stop, config, config.num_steps):
        raise Interrupted(_stopped(config.num_steps, config))
    return state, best


def _consume(run: _Run, pending: tuple[int, Any], state: PyTree, progress: Progress) -> None:
    """Checks and logs the metrics of one call, whose first step is pending[0], before `state`."""
    first, arrays = pending
    host = {name: np.asarray(value) for name, value in jax.device_get(arrays).items()}
    steps = len(next(iter(host.values()))) if host else run.config.steps_per_call
    values: Values = {}
    lost = cache(lambda: stops.nan_in(state, run.first_nan))
    for offset in range(steps):
        step = first + offset + 1
        values = {name: rows[offset].tolist() for name, rows in host.items()}
        labels = partial(_labels, run, state, step)
        stops.require_finite_metrics(values, step, lost, labels)
        run.undefined.note(values, step, labels)
        if step % run.config.log_every == 0:
            _write(run, step, "train", values)
    progress.update(first + steps, {k: v for k, v in values.items() if isinstance(v, float)})


def _labels(run: _Run, state: PyTree, step: int = 0) -> str:
    """Returns which labels of no class step number `step`, or an evaluation, meets; "" if none."""
    one, data, key = run.experiment, run.data, run.key
    if step:
        return strange_labels(one.step, state, data, one.batch(step - 1), key)
    functions = [function for function in (one.evaluate, one.final) if function]
    return next(filter(None, (strange_labels(f, state, data, key) for f in functions)), "")


def _evaluate(run: _Run, compiled: Any, state: PyTree) -> Values:
    return means(compiled(state, run.data, run.key))


def _improve(best: Best | None, step: int, values: Values, metric: str) -> tuple[Best | None, bool]:
    goal = metric_names.goal(metric)
    if not goal.name:
        return best, False
    value = float(np.mean(values[goal.name]))  # of a seed group: its mean
    is_best = goal.is_better(value, best.value if best else None)
    return (Best(step, value) if is_best else best), is_best


def _save(
    run: _Run, step: int, state: PyTree, best: Best | None, is_best: bool, started: float
) -> None:
    stops.require_finite_state(state, run.first_nan, step)
    extra = {
        "metrics_offset": run.logs[0].flush() if run.logs else 0,
        "best": best._asdict() if best else None,
        "seconds": time.monotonic() - started,
        "config_hash": config_hash(run.config),
        "seed": run.config.seed,
        **run.made_of(),
        **to_record(run.fingerprint),
    }
    run.checkpoints.save(step, state, extra=extra, best=is_best)


def _final_metrics(run: _Run, state: PyTree, best: Best | None) -> dict[str, Values]:
    """Evaluates the last and the best state, `final` included."""
    compiled = [run.evaluate()]
    if run.final is not None:
        compiled.append(program.compile_evaluate(run.final(), run.layout, run.left))
    states = {"last": state}
    if best is not None:
        try:  # by its number: of a damaged folder, what is still marked best may be an older one
            restored = run.checkpoints.restore(run.layout.state, step=best.step)
        except DataError as error:
            lost = f"{error}; the best state is lost: remove that folder and train again"
            raise DataError(lost) from error
        assert restored is not None
        states["best"] = restored.state
    metrics = {
        name: {k: v for function in compiled for k, v in _evaluate(run, function, s).items()}
        for name, s in states.items()
    }
    for which, values in metrics.items():
        run.undefined.note(values, run.config.num_steps, partial(_labels, run, states[which]))
    stops.refuse_strange_labels(run.undefined, run.config.num_steps)
    return metrics


def _finished(directory: Path, config: ConfigDict, code: source.Code) -> FitResult | None:
    result = finished(directory, config, code)
    if result is None:
        return None
    step, best_step = result["step"], result.get("best_step")
    return FitResult("already complete", step, best_step, result["metrics"], None)


def _going_on(directory: Path, config: ConfigDict, code: source.Code) -> source.Code:
    """Returns the code with that of a run that is continued; checks what one that begins needs."""
    began = began_with(directory)
    if began:
        check_weights([(config.init_from, began)])
        return code.going_on(directory, began)
    if not manifest.steps(directory / "checkpoints"):
        warm_start.check_source(config, code.may_change)
    return code


def _continued(restored: Restored, config: ConfigDict) -> tuple[_Start, dict[str, Any]]:
    """Returns where a run goes on, and which weights it began from."""
    logging.info("continuing from step %d of %d", restored.step, config.num_steps)
    extra = restored.extra
    best = Best(**extra["best"]) if extra["best"] else None
    origin = {k: v for k, v in extra.items() if k == WEIGHTS}
    return _Start(restored.state, restored.step, best, extra["seconds"]), origin


def _is_due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _write(run: _Run, step: int, kind: str, values: Values) -> None:
    for log in run.logs:
        log.write(step, kind, values)


def _open_logs(
    directory: Path, restored: Restored | None, config: ConfigDict, **kinds: bool
) -> list[Any]:
    """Opens the logs of the lead process, cut off after the restored step."""
    if not distributed.is_lead():
        return []
    step, offset = (restored.step, restored.extra["metrics_offset"]) if restored else (0, 0)
    return open_logs(directory, step=step, offset=offset, config=canonical_json(config), **kinds)


def _write_start(directory: Path, config: ConfigDict, command: Sequence[str]) -> None:
    place = relative_to_run(config, directory)
    write_json(directory / "config.json", {**config.to_dict(), **place})
    record_environment(directory, command)


def _stopped(step: int, config: ConfigDict) -> str:
    saved_at = f"stopped at step {step} of {config.num_steps} and saved"
    return f"{saved_at}; the same command continues from there"


def _asked_to_stop(stop: threading.Event, config: ConfigDict, step: int) -> bool:
    """Returns whether to stop before `step`; all processes of a run give the same answer."""
    if distributed.is_single():
        return stop.is_set()
    if step % max(config.log_every, config.steps_per_call):
        return False  # asking costs a collective
    return distributed.any_process(stop.is_set())
