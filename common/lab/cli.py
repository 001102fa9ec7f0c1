"""The command `lab`: reads the command line, sets JAX up, runs a verb of `common.lab.commands`.

The only module that touches `jax.config` and absl flags. A failure the user can do something about
is one line on stderr and an exit code (`common.errors`); a traceback is always a bug. Nothing here
imports JAX before the command line and the config have been found good.
"""

import contextlib
import io
import logging
import os
import platform
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from absl import flags
from absl import logging as absl_logging

from common.devices import interrupts, jax_start, memory
from common.errors import (
    Interrupted,
    LabError,
    UserError,
    from_machine,
    nearest,
    shortened,
    shown,
)
from common.files.storage import user_path
from common.lab.verbs import VERBS, Verb, overview, usage
from common.pods import chips
from common.verbs import Flag


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    if argv is None:  # the process is ours
        memory.keep_freed_memory()
    with interrupts.watch(to_the_end=argv is None):
        code = _main(list(sys.argv[1:] if argv is None else argv))
        if argv is None:
            interrupts.leave_behind(code)
        return code


def _main(arguments: list[str]) -> int:
    _never_fail_to_print()
    try:
        run(arguments)
    except LabError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print(f"lab: interrupted; {interrupts.NOTHING}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, `head` for one, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        known = from_machine(error)
        if known is not None:
            return _fail(known)
        traceback.print_exc()
        print(
            f"lab: this is a bug; please report it with: lab {' '.join(arguments)}", file=sys.stderr
        )
        return 1
    return 0


def run(arguments: Sequence[str]) -> None:
    """Runs one command line.

    Raises:
        LabError: What `main` prints in one line.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("the working directory no longer exists; change to another") from error
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        named = len(arguments) > 1 and arguments[0] == "help"
        if not named:
            print(overview())
            return
        arguments = [*arguments[1:], "--help"]  # `lab help VERB`
    if arguments[0] in ("version", "--version", "-V"):
        print(_versions())
        return
    name, rest = _verb(arguments)
    if not name:
        return
    verb = VERBS[name]
    if any(word in ("--help", "-h") for word in rest):
        print(usage(name))
        return
    words, values, overrides = parse(name, rest)
    _set_up_logs()
    if verb.takes_config:
        values["overrides"] = overrides
    if verb.passes_on:
        values["passed_on"] = _passed_on(verb, values)
    if verb.starts_jax:
        devices, cache = values.pop("devices"), values.pop("compilation_cache")

        def start(*, x64: bool, environment: Mapping[str, str] | None = None) -> None:
            start_jax(x64=x64, devices=devices, cache=cache, environment=environment)

        values["start_jax"] = start
    verb.run(*words, **values)


def parse(name: str, arguments: Sequence[str]) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """Returns words, flag values by name, and config overrides of the arguments of verb `name`.

    Raises:
        UserError: For what the verb does not take, lacks, or cannot read, and for flags that would
            have no effect.
    """
    verb = VERBS[name]
    definitions = verb.all_flags()
    overrides, rest = _split_overrides(name, arguments) if verb.takes_config else ({}, arguments)
    values = _flag_values(definitions)
    try:
        rest = list(map(_underscored, rest))
        for word in rest:  # absl's own, which would go unnoticed
            if re.match(r"--?(flagfile|undefok)\b", word):
                raise flags.UnrecognizedFlagError(word.lstrip("-").partition("=")[0])
        words = values(["lab", *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        known = [flag.name for flag in definitions] + ["config.FIELD"] * verb.takes_config
        raise UserError(
            f"--{shortened(error.flagname)}: `lab {name}` has no such flag"
            f"{nearest(error.flagname, known)}; allowed: {', '.join(known) or 'none'}"
        ) from None
    except (flags.Error, ValueError) as error:  # ValueError: a value for --noFLAG
        raise UserError(_flag_error(str(error), definitions)) from None
    if verb.word_for and len(words) == 1 and not values[verb.word_for].value:
        values[verb.word_for].value = words.pop()
    if len(words) != len(verb.words):
        wanted = " ".join(verb.words) or "no words, only flags"
        raise UserError(f"`lab {name}` takes {wanted}; got {shortened(' '.join(words)) or 'none'}")
    _check_together(definitions, values)
    for flag in verb.needs:
        if not values[flag].value:
            raise UserError(f"--{flag} is missing; see `lab {name} --help`")
    _check_values(definitions, values)
    given = {flag.name: _value(flag, values[flag.name].value) for flag in definitions}
    return words, given, overrides


def _check_values(definitions: Sequence[Flag], values: flags.FlagValues) -> None:
    """Refuses values that a flag itself says are wrong."""
    for flag in definitions:
        value = values[flag.name].value
        wrong = flag.expected(value) if flag.expected and value is not None else ""
        if wrong:
            raise UserError(f"--{flag.name}={shown(value)}: expected {wrong}")


def _check_together(definitions: Sequence[Flag], values: flags.FlagValues) -> None:
    """Refuses empty texts, and flags that do nothing beside or without others."""
    given = {
        name
        for name, default, *_ in definitions
        if not values[name].using_default_value and (values[name].value or default is not False)
    }
    for flag in (flag for flag in definitions if flag.name in given):
        if values[flag.name].value == "":
            raise UserError(f"--{flag.name}='': expected {flag.help}")
        for other in flag.only_with:
            if other not in given:
                raise UserError(f"--{flag.name} does nothing without --{other}")
        for other in flag.not_with:
            if other in given:
                raise UserError(f"--{flag.name} and --{other}: give one of them")


def _passed_on(verb: Verb, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the flags, as words, that a verb gives to the `lab` commands that it starts."""
    defaults = {flag.name: flag.default for flag in verb.all_flags()}
    changed = {n: values[n] for n in verb.passes_on if values[n] != defaults[n]}
    return tuple(f"--{name}={str(value).lower()}" for name, value in changed.items())


def start_jax(
    *, x64: bool, devices: int, cache: bool, environment: Mapping[str, str] | None = None
) -> None:
    """Imports JAX with the precision, devices and cache of compiled programs asked for.

    Args:
        x64: Whether arrays may be 64 bits wide.
        devices: How many CPU devices to simulate; 0 takes the devices that are there.
        cache: Whether to keep compiled programs, in $JAX_COMPILATION_CACHE_DIR or ~/.cache.
        environment: Other variables to set first.
    """
    if devices:
        os.environ.update(chips.environment(chips.parse_topology(f"cpu:{devices}")))
    os.environ.update(environment or {})
    jax_start.set_environment(keep_programs=cache)
    import jax

    jax.config.update("jax_enable_x64", x64)
    programs = os.environ.get(jax_start.PROGRAMS) if cache else None
    jax.config.update("jax_compilation_cache_dir", programs)


def _never_fail_to_print() -> None:
    """Prints a replacement for what the encoding of a terminal or a file lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _versions() -> str:
    """Returns the version of this package and of what numbers depend on; imports none of it."""
    shown = []
    for name in ("jax-paper-lab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            shown.append(f"{name} {metadata.version(name)}")
    return ", ".join([*shown, f"Python {platform.python_version()}"])


def _set_up_logs() -> None:
    """Sends our own log lines and everybody's warnings to stderr, without time stamps."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LogLine())
    handler.addFilter(
        lambda line: line.levelno >= logging.WARNING or "site-packages" not in line.pathname
    )
    logging.basicConfig(handlers=[handler])
    absl_logging.set_verbosity(absl_logging.INFO)


class _LogLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return f"lab: warning: {text}" if record.levelno >= logging.WARNING else text


def _verb(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the verb and the rest; "" after having printed the help of a group of verbs."""
    first, rest = arguments[0], list(arguments[1:])
    if first in VERBS:
        return first, rest
    group = [name for name in VERBS if name.startswith(f"{first} ")]
    if not group:
        firsts = list(dict.fromkeys(name.split()[0] for name in VERBS))
        raise UserError(
            f"lab {shortened(first)}: no such verb{nearest(first, firsts)}; "
            f"allowed: {', '.join(firsts)}"
        )
    second = rest[0] if rest else ""
    if f"{first} {second}" in group:
        return f"{first} {second}", rest[1:]
    if second in ("--help", "-h"):
        print("\n".join(f"lab {name}: {VERBS[name].summary}" for name in group))
        return "", []
    seconds = [name.split()[1] for name in group]
    raise UserError(
        f"lab {first} {shortened(second) or '(nothing)'}: expected one of {', '.join(seconds)}"
        f"{nearest(second, seconds)}"
    )


def _split_overrides(name: str, arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Returns {field: text} of every --config.FIELD=TEXT or --config.FIELD TEXT, and the rest."""
    overrides: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith(("--config.", "-config.")):
            rest.append(word)
            continue
        field, separator, text = word.lstrip("-").removeprefix("config.").partition("=")
        if not separator:
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"--config.{field}: needs a value, --config.{field}=VALUE")
            text = waiting.pop(0)
        if not field:
            raise UserError(f"{word}: names no field; `lab {name} --config.FIELD=VALUE`")
        overrides[field] = text
    return overrides, rest


def _underscored(word: str) -> str:
    """Returns "--dry_run" for "--dry-run": both are taken, help shows the latter."""
    name, separator, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + separator + value if name[:2] == "--" else word


def _flag_values(definitions: Sequence[Flag]) -> flags.FlagValues:
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow words
    for name, default, text, least, most, *_ in definitions:
        if isinstance(default, bool):
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        elif isinstance(default, int):
            flags.DEFINE_integer(name, default, text, least, most, flag_values=values)
        elif isinstance(default, float):
            flags.DEFINE_float(name, default, text, least, most, flag_values=values)
        else:
            flags.DEFINE_string(name, default, text, flag_values=values)
    return values


def _value(flag: Flag, value: Any) -> Any:
    is_home = flag.is_path and value and value.startswith("~")
    return str(user_path(value, f"--{flag.name}")) if is_home else value


def _flag_error(message: str, definitions: Sequence[Flag]) -> str:
    """Returns our words for what absl says about the value of a flag."""
    named = re.match(r"flag --(\w+)=(.*?): ", message, re.DOTALL)
    flag = next((f for f in definitions if named and f.name == named[1]), None)
    if named is None or flag is None:
        return shortened(message, 300)
    whole = "a number" if isinstance(flag.default, float) else "an integer"
    whole += f" of at least {flag.minimum}" if flag.minimum is not None else ""
    whole += f" and at most {flag.maximum}" if flag.maximum is not None else ""
    return f"--{flag.name}={shown(named[2])}: expected " + (
        "true or false" if isinstance(flag.default, bool) else whole
    )


def _fail(error: LabError) -> int:
    if os.environ.get("LAB_TRACEBACK"):
        traceback.print_exception(error)
    kind = "" if isinstance(error, Interrupted) else "error: "
    words = (shortened(word, 600) for word in str(error).split())  # paths are shorter
    print(f"lab: {kind}{' '.join(words)}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
