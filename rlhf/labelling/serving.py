"""The page on a socket; the only importer of uvicorn."""

import socket
import sqlite3
from pathlib import Path

import uvicorn

from rlhf.labelling.guard import Guard
from rlhf.labelling.server import application, guarded

MAX_HEADERS = 16_384  # bytes
CONNECTIONS = 256
KEEP_SECONDS = 30


def serve(
    store: sqlite3.Connection, path: Path, folder: Path, watch: Guard, listener: socket.socket
) -> None:
    """Serves the page of a run until a signal ends it; see `rlhf.labelling.server`."""
    app = guarded(application(store, path, folder, watch), watch)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,  # it would hold the token
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEADERS,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])
