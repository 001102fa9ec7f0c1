"""The page served by a thread of the test: real sockets, no process to wait for."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Whoever imports this file is skipped as a whole.
pytest.importorskip("starlette", reason="needs the page: pip install 'jax-paper-lab[web]'")
pytest.importorskip("uvicorn", reason="needs the page: pip install 'jax-paper-lab[web]'")

from rlhf.labelling import command, guard, serving, store
from tests.rlhf.desk import fill, swing

Headers = dict[str, str]


class Site(NamedTuple):
    """A page that is served by a thread: its port, its store, and what pages send."""

    port: int
    path: Path
    headers: Headers

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self, method: str, path: str, body: Any = None, headers: Headers | None = None
    ) -> tuple[int, str, http.client.HTTPMessage]:
        """Returns status, text and headers; headers of "" are left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name: x for name, x in {**self.headers, **(headers or {})}.items() if x}
        with contextlib.closing(connection):
            skips = "Host" in (headers or {})
            connection.putrequest(method, path, skip_host=skips, skip_accept_encoding=True)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            if body is not None and "Transfer-Encoding" not in sent:
                sent.setdefault("Content-Length", str(len(content)))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(content if body is not None else None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers

    def post(self, path: str, **fields: Any) -> tuple[int, Any]:
        status, text, _ = self.ask("POST", f"/api/{path}", fields)
        return status, json.loads(text)

    def answers(self) -> int:
        with store.opened(self.path) as desk:
            return desk.execute("SELECT count(*) FROM labels").fetchone()[0]


@contextlib.contextmanager
def serving_from(
    folder: Path, *, token: str = "", pairs: int = 12, clip: Any = swing
) -> Iterator[Site]:
    """Fills a store with pairs and serves its page."""
    path = fill(folder, pairs, clip=clip)
    listener = command.listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    watch = guard.make_guard("127.0.0.1", port, token)
    with store.opened(path) as desk:
        server = serving.server_of(desk, path, folder, watch)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            own = {
                "Content-Type": "application/json",
                "Origin": f"http://127.0.0.1:{port}",
                "X-Lab-Page": watch.page,
            }
            yield Site(port, path, own)
        finally:
            server.should_exit = True
            thread.join()
