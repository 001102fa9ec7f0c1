"""The saved run that a command is about, and the verbs about one that topics bring along."""

import importlib
from collections.abc import Callable
from typing import Any

from common import runs
from common.checkpoints import manifest
from common.devices import interrupts
from common.errors import DataError, LabError, UserError, shortened
from common.papers import REPOSITORY, TOPICS
from common.run_folders.locate import locate
from common.run_folders.trust import check_unchanged
from common.verbs import RunVerb

StartJax = Callable[..., None]


def topic_verbs() -> dict[str, RunVerb]:
    """Returns the verbs that topics bring along, by name."""
    found: dict[str, RunVerb] = {}
    for topic in TOPICS:
        if (REPOSITORY / topic / "verbs.py").is_file():
            found |= importlib.import_module(f"{topic}.verbs").VERBS
    return found


def about_run(verb: RunVerb) -> Callable[..., None]:
    """Returns what `lab` calls for a verb that a topic brings along.

    The run is looked for before JAX is imported. What the topic's library says of an argument
    (ValueError) is a mistake of the user's.
    """

    def call(
        *,
        run: str,
        step: str,
        seed: int,
        workdir: str,
        allow_changed_code: bool,
        start_jax: StartJax,
        **options: Any,
    ) -> None:
        found, chosen = checkpoint(run, step, workdir, allow_changed_code)
        start_jax(x64=found.config.x64)
        loaded = runs.load(found.path, chosen, allow_changed_code=allow_changed_code)
        _answer(verb, loaded.member(None if seed < 0 else seed), found, options)

    return call


def about_folder(verb: RunVerb) -> Callable[..., None]:
    """Returns what `lab` calls for a verb of a topic that needs no state of the run, and no JAX."""

    def call(*, run: str, workdir: str, **options: Any) -> None:
        found = runs.read(locate(run, workdir))
        _answer(verb, found, found, options)

    return call


def _answer(verb: RunVerb, subject: Any, found: runs.Run, options: dict[str, Any]) -> None:
    """Prints what the function of a verb says of a run."""
    module, _, name = verb.function.partition(":")
    with interrupts.saved(verb.stopped):
        try:
            text = getattr(importlib.import_module(module), name)(subject, **options)
        except LabError:  # also those that are a ValueError
            raise
        except ValueError as error:
            raise UserError(f"{found.path}: {error}") from error
    print(text, flush=True)


def checkpoint(run: str, step: str, workdir: str, allow_changed_code: bool) -> tuple[runs.Run, Any]:
    """Returns the run that a person means, and its step: a number that is there, or a word.

    Raises:
        UserError: If the step is no word for one, it is no run, or its code has changed.
        DataError: If there is no such checkpoint.
    """
    if step not in ("best", "last") and not step.isdecimal():
        raise UserError(f"--step={step!r}: expected best, last or the number of a checkpoint")
    found = runs.read(locate(run, workdir))
    if not allow_changed_code:  # refused before JAX is imported; what uses the run checks too
        check_unchanged(found)
    there = manifest.steps(found.path / "checkpoints")
    chosen = next((number for number in there if str(number) == step), step)
    if not there or (step.isdecimal() and chosen is step):
        steps = ", ".join(map(str, there)) or "none"
        raise DataError(f"{found.path}: no checkpoint of step {shortened(step)}; there: {steps}")
    return found, chosen
