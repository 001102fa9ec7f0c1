"""Becomes another program, on given cores, that is told to save and exit if its starter dies.

`python -m common.jobs.child PARENT CPUS COMMAND...` is how `common.jobs.pool` starts every job.
Imports next to nothing: it runs before every job.
"""

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl; kept across exec
INTERRUPTED = 75  # as common.errors.Interrupted


def become(parent: int, cpus: set[int], command: list[str]) -> None:
    """Replaces this process by `command`; exits if `parent` is already gone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(INTERRUPTED)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    become(int(sys.argv[1]), {int(cpu) for cpu in sys.argv[2].split(",")}, sys.argv[3:])
