"""Lines between the processes of one run: when one of them is gone, the others end in one line.

Without them the others wait in a collective: for minutes, and then JAX aborts them with a stack
trace. Every process holds a TCP connection to process 0. The kernel closes it at once where a
process is killed; where a whole host is gone, it finds out by itself in half a minute. A thread
waits for that, whatever the main thread does, and nothing is sent in between: a process that is
busy, or stopped for a while, is not gone.
"""

import contextlib
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from absl import logging

from common.devices import distributed, interrupts
from common.errors import Interrupted, LabError

JOIN_SECONDS = 30.0
# A host that is gone: seconds of silence, seconds between questions, and how many go unanswered.
IDLE, INTERVAL, TIMES = 10, 5, 4
# An error that one process has, all may have, and each says it in its own words.
OWN_WORDS_SECONDS = 10.0
# An error of JAX may come from a process that is gone: how long until the line would say so.
NEWS_SECONDS = 5.0
_TOKEN, _ADDRESS = 16, 64  # bytes


@contextlib.contextmanager
def held(host: str | None = None) -> Iterator[None]:
    """While inside, this process ends with exit code 75 as soon as another one of the run is gone.

    A collective: every process of the run calls it at the same place. A single one does nothing.

    Args:
        host: Where process 0 is, if this process was told; None: where process 0 says it is.
    """
    if distributed.is_single():
        yield
        return
    line = _Line(_lead() if distributed.is_lead() else _follow(host))
    try:
        yield
    except BaseException as error:
        if not isinstance(error, LabError):
            time.sleep(NEWS_SECONDS)
        line.leave("bye" if isinstance(error, Interrupted) else "error")
        raise
    line.leave("bye")


class _Line:
    """The connections of this process by the number of the other one, and a thread that listens."""

    def __init__(self, connections: Mapping[int, socket.socket]) -> None:
        self._connections = dict(connections)
        self._lock = threading.Lock()
        self._has_left = False
        threading.Thread(target=self._listen, name="lifeline", daemon=True).start()

    def leave(self, word: str) -> None:
        """Tells the others that this process ends by itself: "bye", or "error"."""
        with self._lock:
            self._has_left = True
            self._tell(word)

    def _tell(self, words: str) -> None:
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(f"{words}\n".encode())

    def _listen(self) -> None:
        waiting, failed, deadline = dict(self._connections), -1, float("inf")
        while waiting:
            left = min(1.0, max(0.0, deadline - time.monotonic()))
            readable = select.select(list(waiting.values()), [], [], left)[0]
            for number in [n for n, connection in waiting.items() if connection in readable]:
                said = _read(waiting[number])
                if said.startswith("gone"):
                    number = int(said.split()[1])
                if not said or said.startswith("gone"):
                    self._end(number, "is gone: it was killed, or its host failed")
                    return
                waiting.pop(number)
                if said.startswith("error") and failed < 0:
                    failed, deadline = number, time.monotonic() + OWN_WORDS_SECONDS
            if time.monotonic() > deadline:
                break
        if failed >= 0:
            time.sleep(max(0.0, deadline - time.monotonic()))
            self._end(failed, "ended with an error, which is in what it printed")

    def _end(self, number: int, why: str) -> None:
        with self._lock:
            if self._has_left:
                return
            self._tell(f"gone {number}")
            interrupts.end_now(
                f"process {number} of {jax.process_count()} {why}; ended too, earlier checkpoints "
                "are intact: start all processes again, and they continue from the newest",
                Interrupted.exit_code,
            )


def _lead() -> dict[int, socket.socket]:
    """Returns the connections to all other processes, which it tells where to come."""
    token = secrets.token_bytes(_TOKEN)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    others = jax.process_count() - 1
    arrived: dict[int, socket.socket] = {}
    with socket.create_server(
        ("", 0), family=family, backlog=others, dualstack_ipv6=both
    ) as server:
        _announce(server.getsockname()[1], token, _own_address())
        deadline = time.monotonic() + JOIN_SECONDS
        while len(arrived) < others and time.monotonic() < deadline:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            with contextlib.suppress(OSError, ValueError):
                connection = server.accept()[0]
                connection.settimeout(5.0)
                said, _, number = _read(connection, _TOKEN * 2 + 12).partition(" ")
                if said == token.hex():
                    arrived[int(number)] = _kept(connection)
    missing = sorted({*range(1, others + 1)} - arrived.keys())
    if missing:
        logging.warning(
            "no connection from process %s: if it is killed, this is noticed only after minutes",
            ", ".join(map(str, missing)),
        )
    return arrived


def _follow(host: str | None) -> dict[int, socket.socket]:
    """Returns the connection to process 0."""
    port, token, address = _announce(0, b"", "")
    try:
        connection = socket.create_connection((host or address, port), timeout=JOIN_SECONDS)
        connection.sendall(f"{token.hex()} {jax.process_index()}\n".encode())
    except OSError as error:
        logging.warning(
            "no connection to process 0 at %s:%d (%s): if another process is killed, this is "
            "noticed only after minutes",
            host or address,
            port,
            error.strerror or error,
        )
        return {}
    return {0: _kept(connection)}


def _announce(port: int, token: bytes, address: str) -> tuple[int, bytes, str]:
    """Returns what process 0 gives, in every process."""
    raw = token.ljust(_TOKEN, b"\0") + address.encode()[:_ADDRESS].ljust(_ADDRESS, b"\0")
    mine = {"port": np.int64(port), "rest": np.frombuffer(raw, np.uint8)}
    got = distributed.broadcast_from_lead(mine)
    rest = got["rest"].tobytes()
    return int(got["port"]), rest[:_TOKEN], rest[_TOKEN:].rstrip(b"\0").decode()


def _own_address() -> str:
    """Returns the address that other hosts reach this one at, as its route to them begins."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation; nothing is sent
            return probe.getsockname()[0]
    except OSError:
        return socket.gethostname()


def _kept(connection: socket.socket) -> socket.socket:
    connection.settimeout(5.0)  # of what is sent
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("IDLE", IDLE), ("INTVL", INTERVAL), ("CNT", TIMES)):
        if hasattr(socket, f"TCP_KEEP{option}"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{option}"), value)
    return connection


def _read(connection: socket.socket, most: int = 64) -> str:
    """Returns a line; "" if the other end is gone."""
    try:
        return connection.recv(most).decode("ascii", "replace").strip()
    except OSError:
        return ""
