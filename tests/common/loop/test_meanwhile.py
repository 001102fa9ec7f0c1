"""What is made on a thread is made as its caller would make it."""

import contextlib
import threading

import jax
import jax.numpy as jnp
import pytest

from common.evaluation import limited, sums_over
from common.loop.meanwhile import Meanwhile


def test_a_program_is_made_in_the_context_of_the_caller_on_another_thread() -> None:
    rows = jnp.arange(6.0)

    def make() -> tuple[str, str, int]:
        dtype = str(jnp.zeros(()).dtype)
        sums = sums_over(lambda x: {"x": x}, rows, chunk=1)
        return threading.current_thread().name, dtype, int(sums["x"][1])

    with contextlib.closing(Meanwhile()) as meanwhile, jax.enable_x64(True), limited(2):
        thread, dtype, count = meanwhile.make(make)()
    assert thread != threading.current_thread().name
    assert dtype == "float64" and count == 2


def test_what_goes_wrong_is_raised_once_it_is_known_and_where_it_is_needed() -> None:
    known = threading.Event()

    def fail() -> None:
        known.wait()
        raise ValueError("no program")

    with contextlib.closing(Meanwhile()) as meanwhile:
        wait_for = meanwhile.make(fail)
        meanwhile.check()  # not known yet
        known.set()
        with pytest.raises(ValueError, match="no program"):
            wait_for()
        with pytest.raises(ValueError, match="no program"):
            meanwhile.check()


def test_what_has_not_begun_when_it_is_closed_is_not_made() -> None:
    begun, go_on, made = threading.Event(), threading.Event(), []
    meanwhile = Meanwhile()
    meanwhile.make(lambda: (begun.set(), go_on.wait()))
    meanwhile.make(lambda: made.append(1))
    begun.wait()
    threading.Timer(0.05, go_on.set).start()
    meanwhile.close()
    assert made == []
