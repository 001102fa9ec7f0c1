"""Many command lines of `lab` in one process: starting Python costs more than most of them do.

Each command sees what it would in a process of its own: its variables, stdout and stderr (also what
libraries write to the file descriptors), and ends with an exit code.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.lab import cli
from tests.processes import run_child


class Command(NamedTuple):
    """The words after `lab`, and environment variables to set."""

    arguments: Sequence[str]
    env: Mapping[str, str] = {}


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def run_commands(
    commands: Mapping[str, Command], folder: Path, *, env: Mapping[str, str] | None = None
) -> dict[str, Finished]:
    """Returns how each command ended; one that kills the process takes all of them with it.

    Args:
        commands: What to run, in this order.
        folder: Where what was asked and answered is written.
        env: Environment variables of the process.
    """
    asked, answered = folder / "commands.json", folder / "done.json"
    asked.write_text(json.dumps(commands))
    code = "from tests.commands import serve; serve()"
    done = run_child(code, str(asked), str(answered), env=dict(env or {}), seconds=300)
    assert done.returncode == 0, done.stderr
    return {name: Finished(*end) for name, end in json.loads(answered.read_text()).items()}


def _run(arguments: Sequence[str], env: Mapping[str, str]) -> Finished:
    before = dict(os.environ)
    streams = sys.stdout, sys.stderr
    kept = [os.dup(stream.fileno()) for stream in streams]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        for stream, file in zip(streams, (out, err), strict=True):
            os.dup2(file.fileno(), stream.fileno())
        os.environ.update(env)
        try:
            code = cli.main(arguments)
        finally:
            for stream, descriptor in zip(streams, kept, strict=True):
                stream.flush()
                os.dup2(descriptor, stream.fileno())
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(before)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return Finished(code, *texts)


def serve() -> None:
    """Runs the commands of the file that the first argument names, answers in the second."""
    asked, answered = map(Path, sys.argv[1:])
    done = {name: _run(*command) for name, command in json.loads(asked.read_text()).items()}
    answered.write_text(json.dumps(done))
