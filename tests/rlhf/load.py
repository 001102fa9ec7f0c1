"""Many raters at once, each with a connection of their own, and what became of every answer."""

import http.client
import json
import random
import re
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.labelling import store
from tests.rlhf.desk import rows

CHOICES = ("left", "right", "equal", "skip")


class Load(NamedTuple):
    """What raters saw: nonces and answers that were confirmed, and seconds of every answer."""

    confirmed: dict[str, str]
    seconds: list[float]
    refused: int


def put(port: int, raters: int, *, seconds: float, think: float, most: int = 1 << 30) -> Load:
    """Returns what raters got from a page who answer for so long, `think` seconds on average each.

    Args:
        port: Of the page.
        raters: How many.
        seconds: How long.
        think: Mean seconds between an answer and the next one.
        most: Answers of each rater.
    """
    load, lock = Load({}, [], 0), threading.Lock()
    refused = []
    end = time.monotonic() + seconds

    def rate(number: int) -> None:
        draw, page = random.Random(number), _Connection(port)
        queue, given = [], 0
        name = f"rater {number}"
        while time.monotonic() < end and given < most:
            if not queue:
                queue = page.post("queue", {"rater": name, "held": []})[1]["showings"]
                if not queue:
                    break
            one, *queue = queue
            time.sleep(draw.expovariate(1 / think) if think else 0)
            choice, held = draw.choice(CHOICES), [other["nonce"] for other in queue]
            body = {"rater": name, "showing": one["nonce"], "choice": choice, "held": held}
            start = time.perf_counter()
            status, said = page.post("answer", body)
            took = time.perf_counter() - start
            with lock:
                load.seconds.append(took)
                if status == 200:
                    load.confirmed[one["nonce"]] = choice
                else:
                    refused.append(said)
            queue += said.get("showings", [])
            given += 1

    threads = [threading.Thread(target=rate, args=(number,)) for number in range(raters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load._replace(refused=len(refused))


class _Connection:
    """One connection that stays open, as a browser's does."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("GET", "/")
        text = self._connection.getresponse().read().decode()
        self._headers = {
            "Content-Type": "application/json",
            "Origin": f"http://127.0.0.1:{port}",
            "X-Lab-Page": re.findall(r'name="page" content="([^"]+)"', text)[0],
        }

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        self._connection.request("POST", f"/api/{path}", json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())


def kept(path: Path) -> dict[str, str]:
    """Returns the answers in a store by nonce, as they were given and in that order."""
    with store.opened(path) as desk:
        said = rows(
            desk,
            "SELECT nonce, choice, left_is_a FROM labels JOIN showings ON showing = showings.id "
            "ORDER BY labels.id",
        )
    words = {"tie": "equal", "none": "skip"}
    side = lambda choice, left: "left" if (choice == "a") == bool(left) else "right"
    return {nonce: words.get(choice) or side(choice, left) for nonce, choice, left in said}
