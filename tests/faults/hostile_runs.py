"""Run folders and results of somebody who means harm: pipes, links, lies and code in them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.checkpoints import manifest
from common.files import json_files
from tests.faults.experiments import only_run
from tests.faults.nursery import live

TRAIN = ("train", "--config=tests/tiny/config.py:cpu", "--config.num_steps=20")
SECONDS = 15
EVIL = "<script>alert(1)</script>"
CODE = """import os
os.system("touch {marker}")
def evil(config): raise SystemExit
"""
Change = Callable[[Path], None]  # of a copy of the run


def sealed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a manifest, and seals it again as whoever writes it can."""
    file = folder / manifest.NAME
    content = json.loads(file.read_text())
    content.pop("digest")
    change(content)
    content["digest"] = json_files.digest(content)
    file.write_text(json.dumps(content))


def listed(name: str, make: Callable[[Path], Any]) -> Change:
    """A file of any kind that the manifest vouches for."""

    def change(run: Path) -> None:
        folder = run / "checkpoints" / "20"
        make(folder / name)
        entry = {
            "bytes": 0,
            "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        }
        sealed(folder, lambda content: content["files"].update({name: entry}))

    return change


def lie(**fields: Any) -> Change:
    """A manifest whose fields are others."""
    return lambda run: sealed(run / "checkpoints" / "20", lambda content: content.update(fields))


def note(**fields: Any) -> Change:
    """A checkpoint that says other things besides its arrays."""
    change = lambda content: content["extra"].update(fields)
    return lambda run: sealed(run / "checkpoints" / "20", change)


def text(name: str, content: str) -> Change:
    """A file with this content."""
    return lambda run: _write(run / name, content)


def pipe(name: str) -> Change:
    """A pipe in the place of a file: whoever opens it waits for ever."""

    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def code_of_its_own(run: Path) -> None:
    """A config that names a file of the run folder as its experiment."""
    (run / "evil.py").write_text(CODE.format(marker=run.parent / "ran"))
    config = json.loads((run / "config.json").read_text())
    config |= {"experiment": "evil.py:evil", "config_dir": str(run), "config_dir_from_run": "."}
    (run / "config.json").write_text(json.dumps(config))


def link_out(run: Path) -> None:
    """A step that is a link to a folder elsewhere, which pruning must not empty."""
    (run / "checkpoints" / "5").symlink_to(run.parent / "precious")


TRAINS = "the same command, which goes on"
CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a pipe among the files": (listed("pipe", os.mkfifo), (TRAINS, "verify")),
    "a device among the files": (listed("zero", lambda p: p.symlink_to("/dev/zero")), (TRAINS,)),
    "a file elsewhere": (listed("passwd", lambda p: p.symlink_to("/etc/passwd")), (TRAINS,)),
    "a name that leads up": (listed("../../../precious/file", lambda p: None), (TRAINS,)),
    "an absolute name": (listed("/etc/passwd", lambda p: None), (TRAINS,)),
    "a link to a folder elsewhere": (link_out, ("prune",)),
    "a folder in the place of a manifest": (
        lambda run: _folder(run / "checkpoints/20/MANIFEST.json"),
        (TRAINS, "verify"),
    ),
    "a pipe in the place of a manifest": (pipe("checkpoints/20/MANIFEST.json"), (TRAINS, "verify")),
    "a manifest nested without end": (
        text("checkpoints/20/MANIFEST.json", "[" * 99_999),
        (TRAINS,),
    ),
    "a step of another number": (lie(step=10**9), (TRAINS,)),
    "a step that is text": (lie(step="20"), (TRAINS,)),
    "leaves that are none": (lie(leaves=[1, 2]), (TRAINS,)),
    "a leaf of another shape": (
        lie(leaves=[{"path": "params/slope", "shape": [10**12], "dtype": "float32"}]),
        (TRAINS,),
    ),
    "a leaf of no type": (
        lie(leaves=[{"path": "params/slope", "shape": ["a"], "dtype": "evil"}]),
        (TRAINS,),
    ),
    "no files": (lie(files={}), (TRAINS,)),
    "notes that are text": (lie(extra="evil"), (TRAINS,)),
    "an offset before the start": (note(metrics_offset=-7), (TRAINS,)),
    "an offset that is text": (note(metrics_offset="evil"), (TRAINS,)),
    "seconds that are none": (note(seconds=None), (TRAINS,)),
    "a best that is none": (note(best=["evil"]), (TRAINS,)),
    "data that are none": (note(data={"evil": 1}), (TRAINS,)),
    "an experiment of its own": (code_of_its_own, ("eval", "list")),
    "a pipe in the place of a config": (pipe("config.json"), ("list", "verify")),
    "a pipe in the place of a result": (pipe("result.json"), ("list", "report")),
    "a pipe in the place of metrics": (pipe("metrics.jsonl"), ("list", "report")),
    "a script in the names of metrics": (
        text("metrics.jsonl", json.dumps({"step": 1, "kind": "train", EVIL: 0.5}) + "\n"),
        ("report",),
    ),
    "a result of a script": (
        text(
            "result.json",
            json.dumps({"status": EVIL, "config_hash": EVIL, "metrics": {"last": {}}}),
        ),
        ("list", "report"),
    ),
    "a result of numbers without end": (
        text("result.json", '{"step": ' + "9" * 9_999 + "}"),
        ("list",),
    ),
    "a line of metrics without end": (
        text("metrics.jsonl", '{"step": ' + "[" * 9_999 + "\n"),
        ("report",),
    ),
    "letters that are none": (text("environment.json", '{"cpu": "\\ud800"}'), ("list", "report")),
}


def campaign(folder: Path) -> dict[str, Any]:
    """Harms a copy of a run in every way, and lets commands look at it.

    Returns:
        Counts, and what was not harmless: a traceback, a wait, code that ran, a file elsewhere that
        changed, a script in a page.
    """
    folder.mkdir(parents=True)
    first = live([*TRAIN, f"--workdir={folder / 'good'}"], folder)
    assert first.code == 0, first.stderr
    bad = {}
    for number, (name, (change, commands)) in enumerate(CASES.items()):
        place = folder / str(number)
        shutil.copytree(folder / "good", place / "runs")
        _write(place / "precious" / "file", "precious")
        run = only_run(place / "runs").path
        if TRAINS in commands:
            (run / "result.json").unlink()
        change(run)
        for command in commands:
            wrong = _harm(command, run, place)
            if wrong:
                bad[f"{name}: {command}"] = wrong
    return {
        "runs": len(CASES),
        "harmless": len({*CASES} - {n.split(": ")[0] for n in bad}),
        "failures": bad,
    }


def _harm(command: str, run: Path, place: Path) -> str:
    words = {
        TRAINS: [*TRAIN, f"--workdir={place / 'runs'}"],
        "verify": ["runs", "verify", f"--run={run}"],
        "prune": ["runs", "prune", f"--run={run}", "--keep=1"],
        "list": ["runs", "list", f"--workdir={place / 'runs'}", "--metrics"],
        "report": ["report", f"--workdir={place / 'runs'}", f"--out={place / 'page.html'}"],
        "eval": ["eval", f"--run={run}"],
    }[command]
    if command == "report":
        (place / "results").mkdir(exist_ok=True)
        words.append(f"--results={place / 'results'}")
    life = live(words, place, seconds=SECONDS)
    if life.code < 0:
        return f"it was ended by signal {-life.code} after {life.seconds:.0f} s"
    if "Traceback" in life.stderr or life.code not in (0, 2, 3, 4):
        return f"exit code {life.code}: {life.stderr[-400:]}"
    if life.code and len(life.errors()) != 1:
        return f"not one line: {life.stderr[-300:]}"
    if list(place.rglob("ran")):
        return "code of the run folder was run"
    precious = place / "precious" / "file"
    if not precious.exists() or precious.read_text() != "precious":
        return "a file elsewhere was changed"
    page = place / "page.html"
    return "a script is in the page" if page.exists() and EVIL in page.read_text() else ""


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
