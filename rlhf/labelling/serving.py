"""The page on a socket; the only importer of uvicorn."""

import sqlite3
from pathlib import Path

import uvicorn

from rlhf.labelling.guard import MAX_HEADERS, Guard
from rlhf.labelling.server import application, guarded

CONNECTIONS = 256
KEEP_SECONDS = 30


def server_of(store: sqlite3.Connection, path: Path, folder: Path, watch: Guard) -> uvicorn.Server:
    """Returns what serves the page of a run; see `rlhf.labelling.server`."""
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
    return uvicorn.Server(config)
