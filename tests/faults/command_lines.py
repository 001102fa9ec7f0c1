"""Wrong command lines and wrong config files without number, run in a process without JAX.

python -m tests.faults.command_lines 200 0 /tmp/folder
"""

import contextlib
import io
import json
import random
import re
import string
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.config import load_config
from common.lab import cli
from common.lab.verbs import VERBS
from common.papers import papers
from common.values import flatten

Draw = random.Random
TINY = "tests/tiny/config.py:cpu"
ODD = ("", " ", "\0", "é" * 50, "x" * 5_000, "../" * 20, "--", "nan", "-1", "1e400", "[" * 200)


def typo(word: str, draw: Draw) -> str:
    """Returns a word with a letter gone, doubled, changed, or two exchanged."""
    i, letter = draw.randrange(len(word)), draw.choice(string.ascii_lowercase)
    changes = [word[:i] + word[i + 1 :], word[:i] + letter + word[i:]]
    changes += [word[:i] + letter + word[i + 1 :]]
    changes += [word[:i] + word[i : i + 2][::-1] + word[i + 2 :]]
    changed = draw.choice(changes)
    return changed if changed and changed != word else word + letter


def a_verb(draw: Draw) -> list[str]:
    """A verb that does not exist."""
    word = typo(draw.choice(list(VERBS)).split()[0], draw)
    firsts = {verb.split()[0] for verb in VERBS} | {"help", "version"}
    return [word if word not in firsts else word + "x", *draw.choice(([], ["--config=x"]))]


def a_flag(draw: Draw) -> list[str]:
    """A flag that the verb does not have."""
    name = draw.choice([verb for verb in VERBS if VERBS[verb].all_flags()])
    flag = typo(draw.choice(VERBS[name].all_flags()).name, draw) + "q"
    return [*name.split(), f"--{flag}={draw.choice(ODD)}"]


def a_value_of_a_flag(draw: Draw) -> list[str]:
    """Text where a flag wants a number."""
    numbers = [
        (verb, flag.name)
        for verb in VERBS
        for flag in VERBS[verb].all_flags()
        if isinstance(flag.default, int | float) and not isinstance(flag.default, bool)
    ]
    verb, flag = draw.choice(numbers)
    return [*verb.split(), f"--{flag}={draw.choice(('x', '1.2.3', '', '0x', 'one', '[]', '-'))}"]


def a_field(draw: Draw) -> list[str]:
    """A field that the config does not have."""
    spec = draw.choice(_specs())
    field = draw.choice(list(flatten(load_config(spec))))
    return ["train", f"--config={spec}", f"--config.{typo(field, draw)}z={draw.choice(ODD)}"]


def a_type(draw: Draw) -> list[str]:
    """A value of another type than the field has."""
    spec = draw.choice(_specs())
    fields = flatten(load_config(spec))
    kinds = {
        int: ("x", "1.5", "[1]", "1e999", "--"),
        float: ("x", "[1]", "1,2"),
        bool: ("yes", "2"),
    }
    field = draw.choice([name for name, value in fields.items() if type(value) in kinds])
    text = draw.choice(kinds[type(fields[field])])
    return ["train", f"--config={spec}", f"--config.{field}={text}"]


def a_range(draw: Draw) -> list[str]:
    """A number that the loop does not take."""
    bad = {
        "num_steps": ("0", "-1", str(10**30)),
        "steps_per_call": ("0", "-3", "7919"),
        "seed": ("-1", str(2**70)),
        "keep": ("0", "-2"),
        "log_every": ("0", "-5"),
        "seed_group": ("0", "-1"),
        "logical_shards": ("0", "-8"),
        "mesh": ("data=0", "data", "=", "data=x", "a=1,a=2"),
    }
    field = draw.choice(list(bad))
    return ["train", f"--config={TINY}", f"--config.{field}={draw.choice(bad[field])}"]


def a_choice(draw: Draw) -> list[str]:
    """A preset, or a choice after it, that the config file does not offer."""
    path, _, arg = draw.choice(_specs()).rpartition(":")
    wrong = [typo(arg, draw) + "q", f"{arg},{typo('kind', draw)}q=1", f"{arg},=", f",{arg}"]
    return ["train", f"--config={path}:{draw.choice(wrong)}"]


def a_place(draw: Draw) -> list[str]:
    """A file, a run, a paper or a table that is not there."""
    spec = draw.choice(_specs())
    paper, table = "nfn.equivariant", "3"
    return draw.choice(
        [
            ["train", f"--config={typo(spec.replace('/', '//', 1), draw)}q.py"],
            ["eval", f"--run={typo('runs/none', draw)}"],
            ["table", typo(paper, draw) + "q", table],
            ["table", paper, table + "q"],
            ["export", typo("nowhere", draw), "--to=w.npz"],
            ["runs", "compare", "none", "other"],
            ["compile", f"--config={TINY}", f"--topology={typo('v5e:4x4', draw)}:"],
            ["train", f"--config={TINY}", f"--sweep={typo('sweep.json', draw)}"],
        ]
    )


def too_many_words(draw: Draw) -> list[str]:
    """Words that nobody asked for."""
    name = draw.choice(
        [verb for verb in VERBS if not VERBS[verb].words and not VERBS[verb].word_for]
    )
    return [*name.split(), *draw.choices(string.ascii_letters, k=draw.randrange(1, 4))]


def a_file(draw: Draw, folder: Path) -> list[str]:
    """A config file with lines gone, letters changed or bytes in it."""
    text = Path("tests/tiny/config.py").read_text()
    start = text.index("from ml_collections")
    names = [
        match.start() for match in re.finditer(r"\b(config|get_config|import|def)\b", text[start:])
    ]
    at = start + draw.choice(names)
    broken = draw.choice(
        [
            text[:at] + draw.choice("([{'$") + text[at:],
            text[:at] + "x" + text[at:],
            text.replace("get_config", "get_confg"),
            text.replace("return config", "return 7"),
            text.replace('config.experiment = "experiment.py:line"', "1 / 0"),
            text.replace(
                '"experiment.py:line"', repr(draw.choice(("", ":", "a:", "b.c.d", "x.py:y")))
            ),
            text.replace("ConfigDict(dict(", "object(dict("),
            text.replace("0.1", "object()"),
            "\0" + text,
        ]
    )
    path = folder / f"broken{draw.randrange(10**9)}.py"
    path.write_text(broken)
    return ["train", f"--config={path}:cpu"]


KINDS: tuple[Callable[..., list[str]], ...] = (
    *(a_verb, a_flag, a_value_of_a_flag, a_field, a_type, a_range, a_choice, a_place),
    *(too_many_words, a_file),
)


class Accepted(Exception):
    """Nothing was found to be wrong until JAX was needed."""


def _accepted(**_: Any) -> None:
    raise Accepted


def refusal(arguments: Sequence[str]) -> tuple[str, float]:
    """Returns what is wrong with how a command line is refused, "" if nothing; CPU seconds."""
    out, err, start = io.StringIO(), io.StringIO(), time.process_time()
    cli.start_jax = _accepted
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    took, lines = time.process_time() - start, err.getvalue().splitlines()
    if code != 2:
        return f"exit code {code}: {err.getvalue()[-300:]}", took
    if len(lines) != 1 or not lines[0].startswith("lab: error: ") or len(lines[0]) > 3_000:
        return f"not one line: {err.getvalue()[-300:]}", took
    return ("took over a second" if took > 1 else ""), took


def campaign(number: int, seed: int, folder: Path) -> dict[str, Any]:
    """Runs wrong command lines of all kinds; returns counts, and those that were not refused so."""
    draw, failures, slowest = Draw(seed), [], 0.0
    for k in range(number):
        kind = KINDS[k % len(KINDS)]
        arguments = kind(draw, folder) if kind is a_file else kind(draw)
        wrong, took = refusal(arguments)
        slowest = max(slowest, took)
        if wrong:
            failures.append({"kind": kind.__name__, "arguments": arguments, "wrong": wrong})
    loaded = [name for name in ("jax", "numpy") if name in sys.modules]
    return {
        "command_lines": number,
        "one_line_and_2": number - len(failures),
        "seed": seed,
        "slowest_s": round(slowest, 3),
        "jax_was_loaded": "jax" in loaded,
        "failures": failures,
    }


def _specs() -> list[str]:
    return [TINY, *(f"{path}:cpu" for paper in papers() for path in paper.configs.values())]


if __name__ == "__main__":
    print(json.dumps(campaign(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
