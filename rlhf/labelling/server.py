"""The page as an ASGI application: a handful of addresses over one connection to the store."""

import html
import json
import math
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request as Received
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from common.errors import DataError
from rlhf.labelling import answers, guard, requests, showing, status
from rlhf.labelling.asking import facts_of
from rlhf.labelling.guard import Guard, Refusal
from rlhf.labelling.store import now, store_errors

PAGE = Path(__file__).parent / "page"
FILES = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "clips.js": "text/javascript",
    "strip.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
STATUS_SECONDS = 0.5  # for which what the strip says is kept
DAY = 86_400


class Desk(NamedTuple):
    """What every request needs: the store and its file, the run folder, the guard, facts."""

    store: sqlite3.Connection
    path: Path
    folder: Path
    guard: Guard
    facts: dict[str, Any]
    kept: dict[str, Any]  # the last status and its time

    def status(self) -> dict[str, Any]:
        """Returns what the strip says, at most half a second old."""
        if now() - self.kept.get("at", -math.inf) > STATUS_SECONDS:
            said = status.status(self.store, facts_of(self.store), self.folder)
            self.kept.update(at=now(), said=said)
        return self.kept["said"]


def application(store: sqlite3.Connection, path: Path, folder: Path, watch: Guard) -> Starlette:
    """Returns the page of a run.

    Args:
        store: Its store, which only this application writes answers to.
        path: The file of the store, for what people are told.
        folder: Of the run.
        watch: By which requests are judged.

    Raises:
        UserError: If training has not begun.
    """
    desk = Desk(store, path, folder, watch, facts_of(store), {})
    changes = {"queue": _queue, "answer": _answer, "undo": _undo}
    return Starlette(
        routes=[
            Route("/", partial(_index, desk)),
            Route("/api/run", partial(_run, desk)),
            *(
                Route(f"/api/{name}", partial(_changed, desk, function), methods=["POST"])
                for name, function in changes.items()
            ),
            Route("/{name}", _file),
        ],
        exception_handlers={404: _missing, 405: _missing},
    )


def guarded(application: Any, watch: Guard) -> Any:
    """Returns an ASGI application behind its guard, with the headers that browsers heed."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin1"): x.decode("latin1") for name, x in scope["headers"]}
        refused = guard.refusal_of_host(watch, headers)
        path = scope["path"]
        is_open = path in ("/", "/style.css", "/icon.svg")
        if refused is None and not is_open and not guard.is_known(watch, headers):
            refused = Refusal(401, "the token is missing: open the address that you were given")
        if refused is None and scope["method"] == "POST":
            refused = guard.refusal_of_change(watch, headers)

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(n.lower().encode(), x.encode()) for n, x in guard.HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        answered = application if refused is None else _refused(refused)
        await answered(scope, receive, sent)

    return call


def _refused(refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.message}, refusal.status)


async def _missing(received: Received, error: Exception) -> Response:
    del received
    return _refused(Refusal(getattr(error, "status_code", 404), "there is no such address"))


async def _file(received: Received) -> Response:
    name = received.path_params["name"]
    if name not in FILES:
        return _refused(Refusal(404, "there is no such address"))
    return Response((PAGE / name).read_bytes(), media_type=FILES[name])


async def _index(desk: Desk, received: Received) -> Response:
    """The page; with the token in the address, a cookie and the address without it."""
    given = received.query_params.get("token")
    if desk.guard.token and given is not None and guard.is_token(desk.guard, given):
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            guard.COOKIE, desk.guard.session, max_age=DAY, httponly=True, samesite="strict"
        )
        return answer
    if not guard.is_known(desk.guard, received.headers):
        return Response((PAGE / "token.html").read_bytes(), 401, media_type="text/html")
    text = (PAGE / "index.html").read_text()
    text = text.replace("{{page}}", html.escape(desk.guard.page))
    return Response(text, media_type="text/html")


async def _run(desk: Desk, received: Received) -> Response:
    """What the page has to know of the run, once."""
    del received
    names = ("title", "instruction", "window", "fps", "hash")
    return JSONResponse({name: desk.facts[name] for name in names})


async def _changed(desk: Desk, function: Callable[..., Any], received: Received) -> Response:
    """Does what a page asks; says in one line why not."""
    content = bytearray()
    async for part in received.stream():
        content += part
        if len(content) > guard.MAX_BODY:
            return _refused(Refusal(413, f"expected at most {guard.MAX_BODY} bytes"))
    try:
        with store_errors(desk.path):
            said = function(desk, bytes(content))
    except ValueError as error:
        return _refused(Refusal(422, str(error)))
    except answers.Refused as error:
        return _refused(Refusal(error.status, str(error)))
    except DataError as error:
        return _refused(Refusal(503, str(error)))
    return Response(json.dumps(said, allow_nan=False), media_type="application/json")


def _queue(desk: Desk, content: bytes) -> dict[str, Any]:
    asked = requests.read(content)
    rater = showing.rater_named(desk.store, asked.rater)
    return _next(desk, rater, asked.held)


def _answer(desk: Desk, content: bytes) -> dict[str, Any]:
    asked = requests.read(content, "showing", "choice")
    rater = showing.rater_named(desk.store, asked.rater)
    label = answers.answer(desk.store, rater, asked.showing, asked.choice, asked.latency_ms)
    return {"label": label, **_next(desk, rater, asked.held)}


def _undo(desk: Desk, content: bytes) -> dict[str, Any]:
    asked = requests.read(content)
    rater = showing.rater_named(desk.store, asked.rater)
    undone = answers.undo(desk.store, rater)
    again = showing.showing_of(desk.store, undone.showing)
    return {"undone": undone.side, "showings": [again._asdict()], "status": desk.status()}


def _next(desk: Desk, rater: int, held: tuple[str, ...]) -> dict[str, Any]:
    found = showing.refill(desk.store, rater, held)
    return {
        "showings": [one._asdict() for one in found],
        "status": {**desk.status(), "yours": rater},
    }
