"""Between two steps: pairs go to the store, and answers come from it once people gave them."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from common.experiment import Batch, Outside
from rlhf.human_preferences import people
from rlhf.human_preferences.learning import Parts
from rlhf.human_preferences.plan import Plan
from rlhf.labelling import asking, exchange, store, taking
from rlhf.labelling.asking import Pair
from rlhf.labelling.clips import Clip

POLL_SECONDS, REPORT_SECONDS = 0.05, 1.0
FITTED_EVERY = 5  # steps between two fits of what raters give at random
FEWEST = 10  # labels for that


def plan_of_people(plan: Plan) -> Plan:
    """Returns a plan whose last step asks nothing: no later one would learn from the answers."""
    labels = plan.labels.copy()
    labels[-2:] = labels[-2:].sum(), 0
    return plan._replace(labels=labels)


def due_before(plan: Plan, step: int, ahead: int) -> int:
    """Returns before which step pairs have to be answered when a step begins.

    Args:
        plan: Of the run.
        step: The step that is to begin.
        ahead: How many steps training may be ahead of the answers, once it learns; 0: any number.
    """
    if not ahead or not plan.learns[step]:
        return 0
    return max(step - ahead + 1, int(np.argmax(plan.learns > 0)))


@contextlib.contextmanager
def interview(parts: Parts, plan: Plan, folder: Path) -> Iterator[Outside]:
    """Gives what a run takes from outside, see `common.experiment.Experiment`.

    Raises:
        UserError: If the store in the run folder is of another run.
        DataError: If it is damaged or cannot be written.
    """
    path, config = folder / store.NAME, parts.config
    with store.store_errors(path), store.opened(path, create=True) as connection:
        name = f"{config.task.name}/{config.task.goal}"
        run_hash = asking.hash_of(config)
        asking.register(connection, path, run_hash, name, facts(parts, plan))
        if config.people.labels:
            like = people.blank_batch(parts)["seen"][0, 0]
            source = Path(config.config_dir, config.people.labels).expanduser()
            exchange.import_labels(connection, source, name, like)
        yield partial(_outside, parts, plan, connection, path, _fitted(parts))


def facts(parts: Parts, plan: Plan) -> dict[str, Any]:
    """Returns what the page has to know of a run."""
    config = parts.config
    return {
        "instruction": config.people.instruction,
        "title": config.people.title,
        "window": list(parts.task.env.window),
        "fps": config.people.fps,
        "due": np.cumsum(plan.labels).tolist(),
        "total": int(plan.labels.sum()),
    }


def _outside(
    parts: Parts,
    plan: Plan,
    connection: sqlite3.Connection,
    path: Path,
    fitted: Callable[..., Any],
    step: int,
    state: people.State,
    is_stopping: Callable[[], bool],
) -> Batch:
    """Returns the answers that a step takes, when there are enough; {} if it is to stop."""
    section = parts.config.people
    if step:
        pairs = pairs_of(parts, plan, step - 1, jax.device_get(state.shown))
        asking.ask(connection, path, step - 1, pairs, second_share=section.second_share)
    before = due_before(plan, step, section.ahead)
    if not _wait(connection, step, before, section.undo_seconds, is_stopping):
        return {}
    _fit_errors(connection, parts, fitted, step, state)
    labels = taking.take(connection, step, people.room(parts), section.undo_seconds)
    batch = people.blank_batch(parts)
    for place, label in enumerate(labels):
        batch["seen"][place] = label.a.seen, label.b.seen
        batch["preferred"][place], batch["is_new"][place] = label.preferred, 1
    return batch


def pairs_of(parts: Parts, plan: Plan, step: int, shown: people.Shown) -> list[Pair]:
    """Returns the pairs that a step chose, and now and then the one of known answer."""
    slots, due = parts.asking.slots, np.cumsum(plan.labels)
    source = "random" if parts.config.queries.at_random else "active"
    pairs = [Pair(slot, *_clips(shown, slot), source) for slot in range(plan.labels[step])]
    before = due[step] - plan.labels[step]
    share = parts.config.people.check_share
    first, second = shown.goal[slots]
    if int(share * due[step]) > int(share * before) and first != second:
        expected = "a" if first > second else "b"
        pairs.append(Pair(slots, *_clips(shown, slots), "check", expected))
    return pairs


def _clips(shown: people.Shown, place: int) -> tuple[Clip, Clip]:
    a, b = (
        Clip(
            {name: np.asarray(value[place, which]) for name, value in shown.pictures.items()},
            np.asarray(shown.seen[place, which]),
            float(shown.goal[place, which]),
        )
        for which in (0, 1)
    )
    return a, b


def _wait(
    connection: sqlite3.Connection,
    step: int,
    before: int,
    settle_seconds: float,
    is_stopping: Callable[[], bool],
) -> bool:
    """Returns whether answers have come, or were taken before; False if the run is to stop."""
    reported = -REPORT_SECONDS
    while True:
        again = taking.is_taken(connection, step)
        missing = 0 if again else taking.missing(connection, before, settle_seconds)
        if not missing or time.monotonic() - reported >= REPORT_SECONDS:
            asking.report(connection, step, missing)
            reported = time.monotonic()
        if is_stopping():
            return False
        if not missing:
            return True
        time.sleep(POLL_SECONDS)


def _fitted(parts: Parts) -> Callable[..., Any]:
    """Returns the compiled fit of what raters give at random."""
    return jax.jit(partial(people.errors_of_raters, parts), static_argnums=2)


def _fit_errors(
    connection: sqlite3.Connection,
    parts: Parts,
    fitted: Callable[..., Any],
    step: int,
    state: people.State,
) -> None:
    """Writes which share of their answers raters give at random, now and then."""
    given = taking.raters_before(connection, step)
    if step % FITTED_EVERY or len(given) < FEWEST:
        return
    size = parts.config.labels.capacity
    known = {rater: number for number, rater in enumerate(dict.fromkeys(given))}
    who = np.zeros(size, np.int32)
    for place, rater in enumerate(given):
        who[place % size] = known[rater]
    room = 1 << (len(known) - 1).bit_length()  # few programs for any number of raters
    errors = np.asarray(fitted(state.judge, who, room))
    asking.set_errors(connection, {rater: float(errors[n]) for rater, n in known.items()})
