"""Requests that the labelling page has to refuse, and what came of them."""

import json
from pathlib import Path
from typing import Any

from tests.rlhf.refused_requests import CROSS, bodies


def campaign(folder: Path) -> dict[str, Any]:
    """Sends every request to a page of its own that is served on this machine.

    Returns:
        Counts: `refused` of `trials` came back with a status that says so, in a short text that
        shows nothing of the program, and left no answer behind.
    """
    from tests.rlhf.site import serving_from  # skips whoever imports it without the extra

    folder.mkdir(parents=True)
    refused, failures = 0, []
    with serving_from(folder) as site:
        nonce = site.post("queue", rater="Eve", held=[])[1]["showings"][0]["nonce"]
        sent: dict[str, tuple[str, bytes, dict[str, str]]] = {}
        for name, (path, body, _) in bodies().items():
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent[name] = (path, content, {})
        for name, headers in CROSS.items():
            changed = {key: text.format(port=site.port) for key, text in headers.items()}
            long = "x" * 4_200 if "Content-Length" in changed else nonce
            answer = {"rater": "Eve", "showing": long, "choice": "left"}
            changed.pop("Content-Length", None)  # then that of the body, which is as large
            sent[name] = ("answer", json.dumps(answer).encode(), changed)
        before = site.answers()
        for name, (path, content, headers) in sent.items():
            status, text, _ = site.ask("POST", f"/api/{path}", content, headers)
            good = 400 <= status < 500 and "Traceback" not in text and len(text) < 200
            good = good and site.answers() == before
            refused += good
            failures += [] if good else [f"{name}: {status} {text[:100]}"]
    return {"trials": len(sent), "refused": refused, "failures": failures}
