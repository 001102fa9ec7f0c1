"""What a function computes, as text: its operations and constants, as JAX traces them.

The text that JAX prints depends on what was traced before in the same process; this one does not.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from common.fingerprint import data_digest

_ADDRESS = r" at 0x[0-9a-f]+"  # of functions, another one in every process


def program_text(function: Callable[..., Any], *arguments: Any) -> str:
    """Returns what a function does with arguments of these shapes, one operation a line."""
    return "\n".join(_closed(jax.make_jaxpr(function)(*arguments)))


def _closed(closed: Any) -> Iterator[str]:
    """Yields the lines of a program with constants."""
    yield f"constants {[_value(x) for x in closed.consts]}"
    yield from _open(closed.jaxpr)


def _open(jaxpr: Any) -> Iterator[str]:
    """Yields the lines of a program; its variables have numbers, in the order they come."""
    numbers: dict[Any, int] = {}

    def name(atom: Any) -> str:
        if hasattr(atom, "val"):
            return f"{_value(atom.val)}:{atom.aval}"
        return f"{numbers.setdefault(atom, len(numbers))}:{atom.aval}"

    yield f"takes {[name(x) for x in (*jaxpr.constvars, *jaxpr.invars)]}"
    for equation in jaxpr.eqns:
        inputs, outputs = ([name(x) for x in side] for side in (equation.invars, equation.outvars))
        yield f"{equation.primitive} {inputs} {outputs}"
        for key, value in sorted(equation.params.items()):
            yield from _parameter(key, value)
    yield f"gives {[name(x) for x in jaxpr.outvars]}"


def _parameter(key: str, value: Any) -> Iterator[str]:
    """Yields the lines of a parameter of an operation: a program, several, or plain."""
    if hasattr(value, "jaxpr") and hasattr(value, "consts"):
        yield f" {key} {{"
        yield from _closed(value)
        yield "}"
    elif hasattr(value, "eqns"):
        yield f" {key} {{"
        yield from _open(value)
        yield "}"
    elif isinstance(value, tuple | list):
        for place, item in enumerate(value):
            yield from _parameter(f"{key}[{place}]", item)
    elif isinstance(value, np.ndarray | jax.Array):
        yield f" {key} {_value(value)}"
    else:
        yield f" {key} {re.sub(_ADDRESS, '', str(value))}"


def _value(value: Any) -> str:
    """Returns a constant: numbers as they are, arrays as their SHA-256."""
    return data_digest(np.asarray(value)) if np.ndim(value) else repr(np.asarray(value))
