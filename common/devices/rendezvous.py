"""Meeting of the processes of one run over TCP before JAX connects them; needs no JAX.

JAX's own start-up ends a process with a stack trace when another one is missing. Here a missing,
doubled or mistaken process is a sentence in all of them.
"""

import contextlib
import re
import socket
import time
from collections.abc import Mapping

from common.errors import UserError

VARIABLES = ("LAB_COORDINATOR", "LAB_NUM_PROCESSES", "LAB_PROCESS_ID")
# What JAX needs to know a Slurm job by; `srun` sets all of them, other shells of a job only some.
SLURM_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
# Of other clusters that JAX may find within such a job, or be told of.
_ELSEWHERE = re.compile(
    r"OMPI_|JAX_COORDINATOR_ADDRESS|TPU_WORKER_|MEGASCALE_|KUBERNETES_SERVICE_HOST"
)


def read_environment(variables: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Returns (coordinator, number of processes, id of this one); None if no variable is set.

    Raises:
        UserError: If only some are set, or a value is out of range; without them, if this shell
            has only some of the variables of a Slurm job.
    """
    missing = [name for name in VARIABLES if not variables.get(name)]
    if len(missing) == len(VARIABLES):
        _require_whole_job(variables)
        return None
    if missing:
        raise UserError(f"{', '.join(missing)} missing: set all of {', '.join(VARIABLES)}, or none")
    coordinator, number, index = (variables[name] for name in VARIABLES)
    port = re.fullmatch(r"\S+:(\d+)", coordinator)
    if port is None or not 0 < int(port[1]) < 65_536:
        raise UserError(
            f"LAB_COORDINATOR={coordinator!r}: expected host:port, such as 10.0.0.1:8476"
        )
    if not number.isdecimal() or int(number) < 1:
        raise UserError(f"LAB_NUM_PROCESSES={number!r}: expected an integer of at least 1")
    if not index.isdecimal() or int(index) >= int(number):
        raise UserError(f"LAB_PROCESS_ID={index!r}: expected 0 to {int(number) - 1}")
    return coordinator, int(number), int(index)


def _require_whole_job(variables: Mapping[str, str]) -> None:
    """Refuses a shell of a Slurm job that is no task of it: JAX would see one process, or none."""
    there = [name for name in SLURM_VARIABLES if name in variables]
    missing = [name for name in SLURM_VARIABLES if name not in variables]
    if there and missing and not any(map(_ELSEWHERE.match, variables)):
        raise UserError(
            f"--distributed: this shell has {', '.join(there)} of a Slurm job, but not "
            f"{', '.join(missing)}; start the command with srun, one task for each GPU, or set "
            f"{', '.join(VARIABLES)}"
        )


def meet(coordinator: str, num_processes: int, process_id: int, *, timeout_seconds: float) -> None:
    """Returns once all processes have called it; the port is free again afterwards.

    Args:
        coordinator: host:port where process 0 listens.
        num_processes: How many processes must come, this one included.
        process_id: Number of this one, from 0.
        timeout_seconds: How long to wait for the others.

    Raises:
        UserError: If they do not come in time, two have the same number, or they disagree on
            `num_processes`.
    """
    if num_processes == 1:
        return
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + timeout_seconds
    if process_id == 0:
        _lead(int(port), num_processes, deadline, timeout_seconds)
    else:
        greeting = f"{process_id} {num_processes}\n"
        _join(host.strip("[]"), int(port), greeting, deadline, timeout_seconds)


def _lead(port: int, num_processes: int, deadline: float, timeout_seconds: float) -> None:
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        server = socket.create_server(
            ("", port), family=family, backlog=num_processes, dualstack_ipv6=both
        )
    except OSError as error:
        raise UserError(
            f"LAB_COORDINATOR: process 0 cannot listen at port {port} ({error.strerror}); "
            "choose another port"
        ) from error
    arrived: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        problem = ""
        while len(arrived) < num_processes - 1 and not problem:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = sorted({*range(1, num_processes)} - arrived.keys())
                problem = (
                    f"process{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))} of "
                    f"LAB_NUM_PROCESSES={num_processes} did not come within {timeout_seconds:g} s"
                )
                break
            stack.enter_context(connection)
            problem = _welcome(connection, arrived, num_processes)
        for connection in arrived.values():
            with contextlib.suppress(OSError):  # one that has left will not hear it
                connection.sendall(f"{problem or 'ok'}\n".encode())
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(1.0)
                connection.recv(1)  # it closes first, so that the port is free at once
    if problem:
        raise UserError(problem)


def _welcome(connection: socket.socket, arrived: dict[int, socket.socket], wanted: int) -> str:
    """Adds a process to those that have arrived; returns what is wrong with it, or ""."""
    connection.settimeout(5.0)
    try:
        words = connection.makefile().readline(64).split()
    except (OSError, UnicodeDecodeError):
        return ""  # a stranger
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return ""
    process_id, num_processes = map(int, words)
    problem = ""
    if num_processes != wanted:
        problem = (
            f"process {process_id} has LAB_NUM_PROCESSES={num_processes}, process 0 has {wanted}"
        )
    elif process_id in arrived or not 0 < process_id < wanted:
        problem = f"two processes have LAB_PROCESS_ID={process_id}"
    if problem:
        with contextlib.suppress(OSError):
            connection.sendall(f"{problem}\n".encode())
        return problem
    arrived[process_id] = connection
    return ""


def _join(host: str, port: int, greeting: str, deadline: float, timeout_seconds: float) -> None:
    while True:
        left = deadline - time.monotonic()
        try:
            with socket.create_connection((host, port), timeout=max(0.01, left)) as connection:
                connection.sendall(greeting.encode())
                connection.settimeout(max(0.0, left) + 10.0)  # process 0 says when it is too late
                answer = connection.makefile().readline().strip()
        except socket.gaierror as error:
            raise UserError(
                f"LAB_COORDINATOR={host}:{port}: no such host ({error.strerror})"
            ) from error
        except OSError:
            answer = ""
        if answer == "ok":
            return
        if answer:
            raise UserError(answer)
        if time.monotonic() >= deadline:
            raise UserError(
                f"LAB_COORDINATOR={host}:{port}: process 0 did not answer within "
                f"{timeout_seconds:g} s; is it running, and is the port reachable?"
            )
        time.sleep(0.1)
