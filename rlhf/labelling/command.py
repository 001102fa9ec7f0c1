"""`lab label`: the page of a run at an address of this machine, or its labels as a file."""

import importlib.util
import socket
import sqlite3
from pathlib import Path

from common.errors import UserError
from common.runs import Run
from rlhf.labelling import exchange, store
from rlhf.labelling.asking import facts_of, hash_of
from rlhf.labelling.clips import unpacked
from rlhf.labelling.guard import make_guard

BACKLOG = 128
PACKAGES = ("starlette", "uvicorn")


def label(
    run: Run, *, port: int, host: str, token: str | None, labels: str | None, export: str | None
) -> str:
    """Serves the page of a run until it is stopped, or writes its labels.

    Raises:
        UserError: If the run asks nobody, the extra is missing, the address is taken or needs a
            token.
        DataError: If the store is damaged or cannot be written.
    """
    path = run.path / store.NAME
    if "people" not in run.config:
        raise UserError(f"{run.path}: this run asks nobody; train a config with people in it")
    with store.store_errors(path), store.opened(path) as connection:
        facts = facts_of(connection)
        if facts["hash"] != hash_of(run.config):
            raise UserError(
                f"{path}: holds labels of another run ({facts['hash']}, not {hash_of(run.config)})"
            )
        if labels:
            _take_in(run, connection, Path(labels))
        if export:
            count = exchange.export_lines(connection, Path(export))
            return f"{count} labels written to {export}"
        check_installed()
        from rlhf.labelling.serving import server_of

        watch = make_guard(host, port, token)
        with listening(host, port) as listener:
            watch = watch._replace(port=listener.getsockname()[1])
            address = address_of(host, watch.port, token)
            print(f"{facts['title']}: {address}  (Ctrl-C ends it; answers are kept)", flush=True)
            server_of(connection, path, run.path, watch).run(sockets=[listener])
    return "the page is closed"


def check_installed() -> None:
    """Checks that the extra is there.

    Raises:
        UserError: With the command that installs it.
    """
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(
            f"`lab label` needs {' and '.join(lacking)}: pip install 'jax-paper-lab[web]'"
        )


def listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        UserError: If the address is taken, or none of this machine's.
    """
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((bare, port))
    except OSError as error:
        server.close()
        raise UserError(
            f"--host={host} --port={port}: cannot be served at: {error.strerror}; --port=0 takes a "
            "free one"
        ) from error
    server.listen(BACKLOG)
    return server


def address_of(host: str, port: int, token: str | None) -> str:
    """Returns what people open in a browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104
    name = f"[{name}]" if ":" in name and not name.startswith("[") else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _take_in(run: Run, connection: sqlite3.Connection, source: Path) -> None:
    """Takes in other labels, of clips like those that are there."""
    row = connection.execute("SELECT content, sha256 FROM clips WHERE step >= 0 LIMIT 1").fetchone()
    if row is None:
        raise UserError(f"{run.path}: has no clips yet; wait until training has asked")
    like = unpacked(row["content"], row["sha256"]).seen
    new = exchange.import_labels(connection, source, facts_of(connection)["name"], like)
    print(f"{new} new labels from {source}", flush=True)
