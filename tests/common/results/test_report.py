"""The HTML page: everything in one file, nothing from outside, nothing unescaped."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from common import papers
from common.errors import DataError, UserError
from common.results.report import render_report, write_report
from common.results.report_runs import MOST_POINTS, curve, svg

EVIL = "<script>alert(\"x\")</script> & 'y'"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(50))


def claim() -> dict[str, Any]:
    part = {
        "row": "A",
        "column": "acc",
        "relation": "beats",
        "against": "B",
        "state": "holds",
        "value": 60.0,
        "reference": 50.0,
        "lower": False,
        "margin": 1.0,
        "agree": 2,
        "seeds": 2,
        "detail": "1 > 0",
    }
    return {
        "name": "c",
        "statement": "A wins",
        "kind": "paper",
        "source": "Table 1",
        "status": "holds",
        "parts": [part],
        "problem": "",
        "reason": "",
    }


def table(**changes: Any) -> dict[str, Any]:
    cell = {
        "row": "A",
        "column": "acc",
        "metric": "accuracy",
        "family": "",
        "setting": "acc",
        "paper": {"value": 90.5, "spread": 0.25, "source": "T1"},
        "run": "r",
        "values": {"0": 0.5, "1": 0.7},
        "problems": {},
    }
    run = {
        "name": "r",
        "config_hash": "abcdef012345",
        "overrides": {"kind": "a"},
        "function": None,
        "cells": [["A", "acc"]],
        "wall_time_s": {"0": 1.0, "1": 2.0},
    }
    return {
        "format": 2,
        "headline": [],
        "paper": "topic.paper",
        "table": "1",
        "title": "Title",
        "source": "Doe",
        "preset": "cpu",
        "config": "c.py",
        "seeds": [0, 1],
        "unit": "%",
        "scale": 100.0,
        "paper_spread": "std",
        "cells": [cell],
        "claims": [claim()],
        "figure": None,
        "notes": [],
        "deviations": [{"field": "num_steps", "paper": 1000, "ours": 10}],
        "data": [{"set": "images"}],
        "runs": [run],
        "provenance": {"command": "lab table topic.paper 1", "commit": "abc"},
        **changes,
    }


def evil(value: Any) -> Any:
    """Returns the JSON with every free text replaced by a hostile one."""
    if isinstance(value, dict):
        kept = ("status", "state", "kind", "function", "figure", "format")
        return {k: v if k in kept else evil(v) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(item) for item in value]
    return EVIL if isinstance(value, str) else value


class Page(HTMLParser):
    """Collects the tags, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br", "polyline", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def save(folder: Path, data: dict[str, Any], name: str = "1.cpu.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return folder


def test_the_page_shows_numbers_claims_and_provenance(tmp_path: Path) -> None:
    save(tmp_path / "results", table())
    worse = {**claim()["parts"][0], "state": "reversed", "value": 40.0}
    reversed_claim = {**claim(), "status": "fails", "reason": "short", "parts": [worse]}
    failing = table(table="2", claims=[reversed_claim])
    save(tmp_path / "results", failing, "2.cpu.json")

    page = Page(write_report(None, tmp_path / "results", tmp_path / "out.html").read_text())

    assert page.open == []  # every element is closed, in order
    for text in ("90.5 ± 0.25", "60 ± 14", "✔ A wins", "✔ +10", "⇄ A wins", "⇄ -10", "short"):
        assert text in page.text
    for text in ("num_steps = 10 (paper: 1000)", "set: images", "abcdef012345", "commit: abc"):
        assert text in page.text
    assert "Claims: paper: 1 ✔ 1 ✘." in page.text
    targets = {value for name, value in page.attributes if name == "id"}
    links = {value[1:] for name, value in page.attributes if name == "href" and value}
    assert links == targets == {"topic.paper-1.cpu", "topic.paper-2.cpu"}


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = evil(table(notes=["n"]))
    hostile["claims"][0].update(status="fails", reason=EVIL)
    hostile["claims"][0]["parts"][0].update(state="reversed")
    hostile["cells"][0]["problems"] = {"1": EVIL}
    hostile["runs"][0]["function"] = EVIL

    text = render_report([(hostile, tmp_path)])

    page = Page(text)
    assert page.open == []
    assert page.text.count(EVIL) > 10
    assert text.count("<script") == 1  # ours
    names = {name for name, _ in page.attributes}
    assert names <= {"lang", "charset", "name", "content", "class", "id", "href", "scope", "open"}


def test_a_figure_is_inside_the_file_and_nothing_is_fetched(tmp_path: Path) -> None:
    folder = save(tmp_path / "results", table(figure="../results/1.cpu.png"))
    (folder / "1.cpu.png").write_bytes(PNG)

    text = write_report(None, folder, tmp_path / "out.html").read_text()

    page = Page(text)
    [source] = [value for name, value in page.attributes if name == "src"]
    assert source == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert not re.search(r"https?://|@import|url\(|<link|src=.http|fetch\(|XMLHttp", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_a_figure_elsewhere_or_of_another_kind_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    folder = save(tmp_path / "results", table(figure="../secret.png"))

    assert "secret.png is missing" in write_report(None, folder, tmp_path / "o").read_text()
    (folder / "secret.png").write_text("<svg onload=alert(1)>")
    assert "img" not in Page(write_report(None, folder, tmp_path / "o").read_text()).tags


def test_what_cannot_be_shown_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papers, "papers", lambda: ())
    with pytest.raises(UserError, match="is not a folder"):
        write_report(None, tmp_path / "none", tmp_path / "out.html")
    with pytest.raises(UserError, match="nothing to report"):
        write_report(tmp_path, None, tmp_path / "out.html")
    folder = save(tmp_path / "results", {"cells": []})
    with pytest.raises(DataError, match=r"1.cpu\.json.*not the result of a table"):
        write_report(None, folder, tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_curves_keep_their_range_and_are_thinned() -> None:
    log: list[dict[str, Any]] = [{"step": s, "loss": 1 / (s + 1)} for s in range(1001)]
    log[10]["loss"] = "NaN"
    log[5]["loss"] = [1.0, 2.0]  # a seed group

    points = curve(log, "loss")
    drawn = Page(svg([points, [(0, 2.0)]], "loss <b>"))

    assert len(points) <= MOST_POINTS
    assert points[0] == (0, 1.0)
    assert curve(log[5:11], "loss")[0] == (5, 1.5)
    assert len(curve(log[5:11], "loss")) == 5
    assert "loss <b>: " in drawn.text
    assert "b" not in drawn.tags
    assert svg([[]], "loss") == ""
    numbers = [float(x) for x in re.findall(r"[\d.]+(?=,)", svg([points], "loss").split('"')[-2])]
    assert numbers == sorted(numbers)


def test_learning_curves_of_the_runs_are_on_the_page(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / "runs" / "paper" / "experiment" / "abcdef012345" / f"seed{seed}"
        folder.mkdir(parents=True)
        config = {"experiment": "paper:experiment", "best_metric": "-valid_loss", "seed": seed}
        (folder / "config.json").write_text(json.dumps(config))
        lines = [
            {"step": 1, "kind": "train", "loss": 3.0},
            {"step": 5, "kind": "eval", "valid_loss": 2.0 - seed},
            {"step": 9, "kind": "eval", "valid_loss": 1.0},
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
    save(tmp_path / "results", table())

    out = write_report(tmp_path / "runs", tmp_path / "results", tmp_path / "out.html")

    text = out.read_text()
    assert text.count("<polyline") == 2
    assert "valid_loss: 1 to 2, steps 5 to 9" in Page(text).text
    assert "paper/experiment/abcdef012345: 0 of 2 runs complete" in Page(text).text
