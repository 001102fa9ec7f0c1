"""What the page answers over HTTP, and the many ways of asking that it refuses."""

import json
import re
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import runs
from common.errors import UserError
from rlhf.labelling import answers, command, guard, showing, store
from tests.rlhf import load
from tests.rlhf.desk import fill
from tests.rlhf.refused_requests import CROSS, bodies
from tests.rlhf.site import Site, serving_from

TOKEN = "a-word-to-know"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving_from(tmp_path_factory.mktemp("page")) as found:
        yield found


def test_the_page_and_its_files_are_there_and_load_nothing_from_elsewhere(site: Site) -> None:
    status, text, headers = site.ask("GET", "/")
    assert status == 200 and site.headers["X-Lab-Page"] in text
    names = re.findall(r'(?:src|href)="/([^"]+)"', text)
    assert {"page.js", "style.css", "icon.svg"} <= {*names}
    found = [site.ask("GET", f"/{name}") for name in (*names, "clips.js", "strip.js")]
    assert [status for status, *_ in found] == [200] * len(found)
    for content in (text, *(text for _, text, _ in found)):
        addresses = set(re.findall(r"https?://[^\s\"']+", content))
        assert addresses <= {"http://www.w3.org/2000/svg"}  # the name of a format
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store" and headers["server"] is None


def test_an_answer_brings_the_next_pair_and_says_nothing_of_what_is_known(site: Site) -> None:
    status, said = site.post("queue", rater="Ada", held=[])
    assert status == 200 and len(said["showings"]) == showing.QUEUE
    assert {*said["showings"][0]} == {"nonce", "left", "right"}
    assert {*said["showings"][0]["left"]} == {"segments", "circles"}
    held = [one["nonce"] for one in said["showings"]]
    before = site.answers()
    status, said = site.post(
        "answer", rater="Ada", showing=held[0], choice="left", latency_ms=1200, held=held[1:]
    )
    assert status == 200 and len(said["showings"]) == 1 and site.answers() == before + 1
    status, said = site.post("undo", rater="Ada")
    assert status == 200 and said["undone"] == "left" and len(said["showings"]) == 1


@pytest.mark.parametrize("name", bodies())
def test_what_is_no_request_is_refused(site: Site, name: str) -> None:
    path, body, expected = bodies()[name]
    before = site.answers()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, text, headers = site.ask("POST", f"/api/{path}", content)
    assert status == expected, text
    assert "Traceback" not in text and len(text) < 200
    assert headers["Content-Security-Policy"] and site.answers() == before


@pytest.mark.parametrize("name", CROSS)
def test_requests_of_other_sites_are_refused(site: Site, name: str) -> None:
    one = site.post("queue", rater="Eve", held=[])[1]["showings"][0]["nonce"]
    changed = {key: text.format(port=site.port) for key, text in CROSS[name].items()}
    body, before = {"rater": "Eve", "showing": one, "choice": "left"}, site.answers()
    if "Content-Length" in changed:
        body["showing"] = "x" * 4_200  # as long as it says
        changed = {}
    status, text, _ = site.ask("POST", "/api/answer", body, changed)
    assert status in (403, 413, 415, 421), text
    assert site.answers() == before
    if "Host" in changed:
        assert site.ask("GET", "/", headers=changed)[0] == 421


def test_an_answer_that_is_sent_again_is_refused(site: Site) -> None:
    one = site.post("queue", rater="Replay", held=[])[1]["showings"][0]["nonce"]
    body = {"rater": "Replay", "showing": one, "choice": "right"}
    assert site.post("answer", **body)[0] == 200
    before = site.answers()
    assert site.post("answer", **body)[0] == 409
    assert site.post("answer", **{**body, "rater": "Eve"})[0] == 404  # nor by somebody else
    assert site.post("undo", rater="Replay")[0] == 200
    assert site.post("answer", **body)[0] == 409  # nor after it was taken back
    assert site.answers() == before


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/answer", 405),
        ("PUT", "/api/answer", 405),
        ("DELETE", "/api/queue", 405),
        ("GET", "/labels.sqlite", 404),
        ("GET", "/../command.py", 404),
        ("GET", "/%2e%2e/command.py", 404),
        ("GET", "/index.html", 404),
        ("GET", "//etc/passwd", 404),
    ],
)
def test_other_addresses_and_methods_are_refused(
    site: Site, method: str, path: str, expected: int
) -> None:
    assert site.ask(method, path)[0] == expected


@pytest.mark.parametrize(
    "words",
    [
        b"nonsense\r\n\r\n",
        b"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: -4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(site: Site, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as raw:
        raw.sendall(words.replace(b"{port}", str(site.port).encode()))
        assert re.match(rb"HTTP/1\.1 4\d\d", raw.recv(100))


def test_a_body_in_parts_is_refused_when_it_grows_too_large(site: Site) -> None:
    part = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    body = part * 3 + b"0\r\n\r\n"
    status, *_ = site.ask("POST", "/api/queue", body, {"Transfer-Encoding": "chunked"})
    assert status == 413


def test_a_token_opens_the_page_once_and_stays_in_a_cookie(tmp_path: Path) -> None:
    with serving_from(tmp_path, token=TOKEN) as site:
        assert site.ask("GET", "/")[0] == 401
        assert "token" in site.ask("GET", "/")[1]
        for path in ("/page.js", "/api/run"):
            assert site.ask("GET", path)[0] == 401
        assert site.ask("POST", "/api/queue", {"rater": "Ada"})[0] == 401
        for wrong in ("wrong", "", TOKEN + "x", "%00"):
            assert site.ask("GET", f"/?token={wrong}")[0] == 401
        status, _, headers = site.ask("GET", f"/?token={TOKEN}")
        cookie = headers["Set-Cookie"]
        assert status == 303 and headers["Location"] == "/" and TOKEN not in cookie
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
        mine = {"Cookie": cookie.partition(";")[0]}
        assert site.ask("GET", "/", headers=mine)[0] == 200
        assert site.ask("POST", "/api/queue", {"rater": "Ada"}, mine)[0] == 200
        for forged in (f"{guard.COOKIE}={TOKEN}", f"{guard.COOKIE}=", "x", f"{guard.COOKIE}=é"):
            raw = {"Cookie": forged.encode("utf-8").decode("latin1")}
            assert site.ask("POST", "/api/queue", {"rater": "Ada"}, raw)[0] == 401
        # Whoever knows the token is still asked where the request comes from.
        there = {**mine, "Origin": "https://evil.example"}
        assert site.ask("POST", "/api/queue", {"rater": "Ada"}, there)[0] == 403


def test_others_reach_the_page_with_a_token_only() -> None:
    for host in ("0.0.0.0", "192.168.1.7", "::"):
        with pytest.raises(UserError, match=r"--host=.*: others reach the page .*--token=WORD"):
            guard.make_guard(host, 8000, None)
        assert guard.make_guard(host, 8000, TOKEN).token == TOKEN
    assert guard.make_guard("127.0.0.1", 8000, None).token == ""


def test_an_address_that_is_taken_is_told() -> None:
    with command.listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port={port}: cannot be served at: .*--port=0"):
            command.listening("127.0.0.1", port)


def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "PACKAGES", ("starlette", "no_such_package"))
    with pytest.raises(
        UserError, match=r"needs no_such_package: pip install 'jax-paper-lab\[web\]'"
    ):
        command.check_installed()


def test_a_clip_that_is_gone_is_one_line_on_the_page(tmp_path: Path) -> None:
    with serving_from(tmp_path, pairs=1) as site:
        with store.opened(site.path) as desk:
            desk.execute("PRAGMA foreign_keys = OFF")
            desk.execute("DELETE FROM clips WHERE id = 1")
        status, said = site.post("queue", rater="Bob", held=[])
    assert status == 503 and said["error"] == "pair 1: a clip is missing"


def test_an_answer_that_a_full_disk_refuses_may_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> float:
        raise sqlite3.OperationalError("database or disk is full")

    with serving_from(tmp_path, pairs=1) as site:
        one = site.post("queue", rater="Ada", held=[])[1]["showings"][0]["nonce"]
        body = {"rater": "Ada", "showing": one, "choice": "left"}
        with monkeypatch.context() as patch:
            patch.setattr(answers, "now", full)
            status, said = site.post("answer", **body)
        assert status == 503 and said["error"].endswith("cannot be written: the disk is full")
        assert site.answers() == 0  # nothing of it was kept
        assert site.post("answer", **body)[0] == 200 and site.answers() == 1


def label(folder: Path, **flags: Any) -> str:
    """Runs `lab label` on a run folder."""
    given: dict[str, Any] = {
        "port": 0,
        "host": "127.0.0.1",
        "token": None,
        "labels": None,
        "export": None,
    }
    return command.label(runs.read(folder), **{**given, **flags})


def test_labels_of_a_run_are_written_to_a_file(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    assert label(tmp_path, export=str(tmp_path / "x.jsonl")).startswith("0 labels written")
    lines = [json.loads(line)["kind"] for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert lines == ["labels", *["clip"] * 4, *["pair"] * 2]


def test_a_run_that_asks_nobody_or_whose_store_is_not_its_own_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "one", 1)
    with pytest.raises(UserError, match="others reach the page there; give --token"):
        label(tmp_path / "one", host="0.0.0.0")
    other = fill(tmp_path / "two", 1, run_hash="ab/seed3")
    with pytest.raises(UserError, match=r"labels of another run \(ab/seed3, not \w+/seed0\)"):
        label(tmp_path / "two")
    other.unlink()
    with pytest.raises(UserError, match="is not there: training that asks people makes it"):
        label(tmp_path / "two")
    (tmp_path / "two/config.json").write_text('{"experiment": "rlhf.human_preferences:control"}')
    with pytest.raises(UserError, match="this run asks nobody"):
        label(tmp_path / "two")


@pytest.mark.parametrize("most", [5, pytest.param(1 << 30, marks=pytest.mark.slow)])
def test_twenty_people_at_once_lose_nothing(tmp_path: Path, most: int) -> None:
    """The slow one takes two minutes; `tests.benchmarks.labelling_load` says how fast it is."""
    is_short = most == 5
    with serving_from(tmp_path, pairs=200 if is_short else 8_000) as site:
        think, seconds = (0.0, 600.0) if is_short else (0.5, 120.0)
        said = load.put(site.port, 20, seconds=seconds, think=think, most=most)
        assert load.kept(site.path) == said.confirmed
    assert said.refused == 0 and len(said.confirmed) >= (100 if is_short else 1_000)
