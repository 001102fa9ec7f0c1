"""What is made on a thread is made as its caller would make it."""

import contextlib
import threading

import jax
import jax.numpy as jnp
import pytest

from common.devices.interrupts import UNNEEDED
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


def test_closing_waits_for_nothing_and_has_nothing_more_made() -> None:
    begun, go_on, made = threading.Event(), threading.Event(), []
    meanwhile = Meanwhile()
    meanwhile.make(lambda: (begun.set(), go_on.wait()))
    meanwhile.make(lambda: made.append(1))
    begun.wait()
    meanwhile.close()  # with the first still being made
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith(UNNEEDED):
            thread.join()
    assert made == []
