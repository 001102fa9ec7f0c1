"""What verbs of `lab` are made of: flags, and verbs about a saved run that a topic brings along.

A topic whose library answers questions about any run has a module `verbs` with `VERBS`, a
`RunVerb` for every name. `lab` finds it, takes the flags that all verbs about a run have, loads the
run and calls the function. Like config files, such a module loads no JAX.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Flag(NamedTuple):
    """One flag; the type of `default` is its type, None is a string without a default.

    `only_with` and `not_with` name flags without or beside which it would do nothing. `expected`
    returns what a value should be, "" if it is.
    """

    name: str
    default: Any
    help: str
    minimum: int | None = None
    maximum: int | None = None
    is_path: bool = False  # "~" at its start is a home directory
    only_with: tuple[str, ...] = ()
    not_with: tuple[str, ...] = ()
    expected: Callable[[Any], str] | None = None


class RunVerb(NamedTuple):
    """A verb about a saved run.

    Attributes:
        summary: One line for `lab --help`.
        function: "module:name", imported once the run is found and JAX is set up; it takes a
            `common.runs.Loaded`, and the flags by name, and returns what is printed.
        loads: False: the function takes the `common.runs.Run`, trained or not, and JAX is not set
            up.
        flags: Flags of this verb.
        stopped: What is said of a command that a signal stops.
        examples: Whole command lines, shown by --help.
        notes: Text below them.
    """

    summary: str
    function: str
    flags: tuple[Flag, ...] = ()
    stopped: str = "the same command begins again"
    examples: tuple[str, ...] = ()
    notes: str = ""
    loads: bool = True


def one_of(*allowed: str) -> Callable[[Any], str]:
    """Returns the `expected` of a flag with these values."""
    return lambda value: "" if value in allowed else f"one of {', '.join(allowed)}"
