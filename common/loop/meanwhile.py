"""Programs that the first steps do not need, made on a thread while these run.

Tracing what is measured at the end of a run takes as long as tracing its step, and steps leave
Python idle. So it is not waited for; what is wrong with it still comes out within seconds.
"""

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from common.devices import distributed
from common.devices.interrupts import UNNEEDED

Make = Callable[[], Any]


class Meanwhile:
    """One thread, which makes one thing after the other.

    In a run of several processes each thing is made at once: they compile in the same order.

    Args:
        first: What is to be made before anything else.
    """

    def __init__(self, *first: Make) -> None:
        self._thread = ThreadPoolExecutor(1, UNNEEDED) if distributed.is_single() else None
        self._made: list[Future[Any]] = []
        for function in first:
            self.make(function)

    def make(self, function: Make) -> Make:
        """Has something made, as in the context of the caller; returns what waits for it."""
        if self._thread is None:
            made = function()
            return lambda: made
        x64 = bool(jax.config.jax_enable_x64)  # of this thread only, if set by a context manager

        def there() -> Any:
            with jax.enable_x64(x64):
                return function()

        future = self._thread.submit(contextvars.copy_context().run, there)
        self._made.append(future)
        return future.result

    def check(self) -> None:
        """Raises what went wrong so far; takes no time."""
        for future in self._made:
            if future.done():
                future.result()

    def close(self) -> None:
        """Has nothing more made; what is being made is not waited for."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
