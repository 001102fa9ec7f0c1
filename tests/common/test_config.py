"""Configs: presets, typed overrides, one line for every mistake, and what the hash ignores."""

import json
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from common import config as config_module
from common.config import (
    canonical_json,
    choices,
    config_hash,
    describe_diff,
    from_json,
    load_config,
)
from common.errors import UserError
from common.loop_fields import LOOP_DEFAULTS
from common.papers import builders, papers
from common.values import convert, flatten

HEADER = """
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder, required_placeholder
from common.config import choices
"""
BODY = """
ALLOWED = {"kind": ("np", "hnp")}

def get_config(arg=None):
    args = choices(arg, {"preset": ("cpu",), "size": 4})
    config = ConfigDict()
    config.experiment = "mine.py:line"
    config.num_steps = 12
    config.batch_size = 16
    config.name = "adam"
    config.kind = "np"
    config.note = None
    config.limit = placeholder(int)
    config.model = ConfigDict(dict(
        rate=0.5, wide=False, size=args["size"], widths=(2, 3), scales=(0.1, 1.0), any=(),
        nested=((1, 2), (3,)), mixed=(1, 0.5), layers=(("a", 1),),
    ))
    CHANGES
    return config

def check(config):
    if config.model.rate > 1:
        raise ValueError(f"config.model.rate={config.model.rate}: expected at most 1")
"""


def load(folder: Path, *, arg: str = "", changes: str = "", **overrides: str) -> ConfigDict:
    """Loads a config of a user's own, in a folder outside the repository."""
    (folder / "mine.py").write_text("def line(config): ...\n")
    (folder / "mine_config.py").write_text(HEADER + BODY.replace("CHANGES", changes))
    dotted = {name.replace("__", "."): text for name, text in overrides.items()}
    return load_config(f"{folder / 'mine_config.py'}{arg}", dotted)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400, text
    return text


OFFERED = {"preset": ("cpu", "paper"), "data": ("mnist", "cifar10"), "size": 1, "rate": 0.5}


def test_an_argument_chooses_of_what_is_offered_and_gives_free_values_their_type() -> None:
    first = {"preset": "cpu", "data": "mnist", "size": 1, "rate": 0.5}

    args = choices("paper,size=3,rate=1", OFFERED)

    assert args == {**first, "preset": "paper", "size": 3, "rate": 1.0}
    assert isinstance(args["rate"], float)
    assert choices(None, OFFERED) == first
    assert choices("data=cifar10", OFFERED) == {**first, "data": "cifar10"}
    assert choices("paper", OFFERED, data="") == {**first, "preset": "paper", "data": ""}


@pytest.mark.parametrize(
    ("arg", "parts"),
    [
        ("cpu,sise=3", ("'sise'", 'did you mean "size"', "preset, data, size, rate")),
        ("cpu,paper", ("'paper'", "key")),
        ("cpu,size=3.5", ("size='3.5'", "an integer")),
        ("papr", ("preset='papr'", 'did you mean "paper"', "allowed: cpu, paper")),
        ("cpu,data=cifar", ("data='cifar'", 'did you mean "cifar10"', "allowed: mnist, cifar10")),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(arg: str, parts: tuple[str, ...]) -> None:
    with pytest.raises((UserError, ValueError)) as error:
        choices(arg, OFFERED)

    text = str(error.value)
    assert "\n" not in text and all(part in text for part in parts)


def test_every_config_has_the_fields_of_the_loop(tmp_path: Path) -> None:
    config = load(tmp_path, changes="config.keep = 5")

    set_by_file = {"num_steps": 12, "keep": 5, "config_dir": str(tmp_path)}
    for name, default in LOOP_DEFAULTS.items():
        value = config.to_dict()[name]
        assert value == set_by_file.get(name, default), name
    with pytest.raises((AttributeError, KeyError)):
        config.unknown = 1  # locked


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("num_steps", "24", 24),
        ("model.rate", "1", 1.0),
        ("model.rate", "3e-4", 3e-4),
        ("model.wide", "true", True),
        ("model.wide", "0", False),
        ("name", "sgd", "sgd"),
        ("name", "12", "12"),
        ("note", "7", 7),
        ("note", "plain words", "plain words"),
        ("model.widths", "(4, 5, 6)", (4, 5, 6)),
        ("model.widths", "[4]", (4,)),
        ("model.scales", "(1, 0.5)", (1.0, 0.5)),
        ("model.any", "('a', 1)", ("a", 1)),
        ("model.nested", "((5, 6),)", ((5, 6),)),
        ("model.nested", "[[5, 6], [7]]", ((5, 6), (7,))),
        ("model.mixed", "[2, 0.5]", (2, 0.5)),
        ("model.layers", "[['a', 3], ['b', 4]]", (("a", 3), ("b", 4))),
        ("note", "[[1], 2]", ((1,), 2)),
        ("limit", "7", 7),
        ("limit", "None", None),
        ("mesh", "{'data': 4, 'model': 2}", {"data": 4, "model": 2}),
        ("mesh.data", "4", 4),
    ],
)
def test_an_override_takes_the_type_of_its_field(
    tmp_path: Path, field: str, text: str, value: Any
) -> None:
    config = load(tmp_path, **{field: text})

    leaf: Any = config.to_dict()
    for part in field.split("."):
        leaf = leaf[part]
    assert leaf == value
    assert type(leaf) is type(value)
    if isinstance(value, tuple):
        assert list(map(type, leaf)) == list(map(type, value))


@pytest.mark.parametrize(
    ("field", "text", "parts"),
    [
        ("num_step", "3", ("num_step", 'did you mean "num_steps"', "allowed:")),
        ("model.ratee", "3", ("model.ratee", 'did you mean "rate"')),
        ("model.rate.x", "3", ("model.rate", "is a value")),
        ("model", "3", ("is a section", "rate")),
        ("model.rate", "fast", ("model.rate='fast'", "a number")),
        ("model.rate", "nan", ("model.rate='nan'", "a number")),
        ("num_steps", "1.5", ("num_steps='1.5'", "an integer")),
        ("model.wide", "yes", ("model.wide='yes'", "true or false")),
        ("model.widths", "4", ("model.widths='4'", "a list")),
        ("model.widths", "(4, 0.5)", ("0.5 is not of type int",)),
        ("model.widths", "(4, True)", ("True is not of type int",)),
        ("model.widths", "import os", ("a list",)),
        ("model.widths", "(" * 300 + ")" * 300, ("a list", "...(602 characters)...")),
        ("model.nested", "((1, 'a'),)", ("'a' is not of type int",)),
        ("model.nested", "(1,)", ("1 is not of type tuple",)),
        ("limit", "abc", ("limit='abc'", "an integer")),
        ("limit", "1.5", ("limit='1.5'", "an integer")),
        ("num_steps", "9" * 400, ("an integer that 64 bits hold", "...(402 characters)...9999")),
        ("num_steps", "9" * 5000, ("an integer that 64 bits hold",)),
        ("num_steps", "-" + "9" * 400, ("an integer that 64 bits hold",)),
        ("model.rate", "9" * 400, ("a number that 64 bits hold",)),
        ("model.rate", "1e999", ("a number that 64 bits hold",)),
        ("num_steps", "4294967296", ("num_steps=4294967296", "at most 2147483647")),
        ("seed_group", "1000000000000", ("seed_group=1000000000000", "at most 1024")),
        ("batch_size", "0", ("batch_size=0", "from 1 to")),
        ("experiment", "x" * 500, ("...(502 characters)...",)),
        ("mesh", "4", ("mesh='4'", "axis sizes")),
        ("mesh", "{1: 2}", ("mesh=", "axis sizes")),
        ("mesh.dat", "4", ('did you mean "data"',)),
        ("model.rate", "2", ("config.model.rate=2.0", "at most 1")),  # the file's own check
        ("kind", "hn", ("config.kind='hn' is unknown", "allowed: np, hnp")),
    ],
)
def test_a_wrong_override_is_one_line_with_field_value_and_what_is_allowed(
    tmp_path: Path, field: str, text: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, **{field: text})

    assert all(part in one_line(error) for part in parts), error.value


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ("config.num_steps = 0", ("config.num_steps=0", "at least 1")),
        ("config.steps_per_call = 0", ("config.steps_per_call=0", "at least 1")),
        ("config.log_every = 0", ("config.log_every=0", "at least 1")),
        ("config.logical_shards = 0", ("config.logical_shards=0", "at least 1")),
        ("config.seed_group = 0", ("config.seed_group=0", "at least 1")),
        ("config.keep = 0", ("config.keep=0", "at least 1")),
        ("config.seed = -1", ("config.seed=-1", "from 0")),
        ("config.seed = 2**32", ("config.seed=4294967296", "from 0 to 4294967295")),
        ("config.seed, config.seed_group = 2**32 - 2, 3", ("config.seed=", "seed_group")),
        ("config.eval_every = -1", ("config.eval_every=-1", "at least 0")),
        ("config.checkpoint_every = -1", ("config.checkpoint_every=-1", "at least 0")),
        ("config.steps_per_call = 5", ("config.num_steps=12", "multiple of steps_per_call=5")),
        ("config.steps_per_call, config.eval_every = 4, 6", ("config.eval_every=6", "multiple")),
        ("config.steps_per_call, config.checkpoint_every = 4, 6", ("checkpoint_every=6",)),
        ("config.mesh = ConfigDict()", ("config.mesh={}",)),
        ("config.mesh = ConfigDict(dict(data=0))", ("config.mesh={'data': 0}", "at least 1")),
        ("config.mesh = ConfigDict(dict(data=-1, model=-1))", ("at most one",)),
        ("config.mesh = ConfigDict(dict(data='all'))", ("config.mesh=", "axis sizes")),
        ("config.mesh = 8", ("config.mesh=8", "dict")),
        ("config.deterministic = True; config.batch_size = 12", ("batch_size=12", "shards=8")),
        ("config.deterministic = True; config.seed_group = 2", ("seed_group=2", "expected 1")),
        ("config.x64 = 1", ("config.x64=1", "bool")),
        ("config.seed = 0.5", ("config.seed=0.5", "int")),
        ("config.best_metric = 3", ("config.best_metric=3", "str")),
        ("config.experiment = 'mine.py'", ("config.experiment='mine.py'", "file.py:function")),
        ("config.experiment = 'other.py:line'", ("config.experiment='other.py:line'",)),
        ("config.experiment = 'nfn.equivarient:x'", ('did you mean "nfn.equivariant:"',)),
        ("del config.experiment", ("config.experiment is missing",)),
        ("config.model.act = lambda x: x", ("config.model.act=", "plain data")),
        ("config.model.rate = float('nan')", ("config.model.rate=nan", "plain data")),
        ("config.extra = 10**400", ("config.extra=1000", "64 bits")),
        ("config.extra = 10**5000", ("config.extra=a int of more digits", "64 bits")),
        ("config.again = config", ("config.again is config again",)),
        ("config.model.up = config", ("config.model.up is config again",)),
        ("config.model.a = ConfigDict(); config.model.a.b = config.model", ("config.model again",)),
        ("config.model[3] = 1", ("fields not called by text",)),
        ("config.odd = ConfigDict({3: 1})", ("config.odd has a field called 3",)),
        (
            "config.model.must = required_placeholder(int)",
            ("--config.model.must=VALUE, of type int",),
        ),
        ("raise SystemExit(3)", ("SystemExit: 3",)),
        ("config.experiment = 'mine.py:lime'", ("no builder 'lime'", 'did you mean "line"')),
    ],
)
def test_a_value_out_of_range_is_named_before_jax_is_needed(
    tmp_path: Path, changes: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, changes=changes)

    assert all(part in one_line(error) for part in parts), error.value


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("def get_config(:\n", ("broken.py", "line 1")),
        ("import no_such_module\n", ("broken.py", "no_such_module", "line 1")),
        ("x = 1 / 0\n", ("broken.py", "ZeroDivisionError", "line 1")),
        ("x = 3\n", ("broken.py", "get_config")),
        ("def get_config(arg):\n    return {}\n", ("broken.py", "dict, not ConfigDict")),
        ("def get_config(arg):\n    return arg.nothing\n", ("broken.py", "(line 2)")),
        ("def get_config(arg):\n    raise ValueError('no preset x')\n", ("no preset x",)),
    ],
)
def test_a_broken_config_file_is_one_line_with_its_place(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)

    with pytest.raises(UserError) as error:
        load_config(f"{path}:cpu")

    assert all(part in one_line(error) for part in parts), error.value


def test_a_missing_file_is_named_with_its_neighbor(tmp_path: Path) -> None:
    load(tmp_path)

    with pytest.raises(UserError, match=r"no such file.*did you mean .*mine_config.py"):
        load_config(str(tmp_path / "mine_confg.py"))
    (tmp_path / "notes.txt").write_text("x = 1")
    with pytest.raises(UserError, match=r"notes\.txt: expected a Python file"):
        load_config(str(tmp_path / "notes.txt"))


def paper_config(arg: str = "cpu") -> ConfigDict:
    """The first config file of the first paper, found from any working directory."""
    path = next(iter(papers()[0].configs.values()))
    return load_config(f"{path}:{arg}")


def test_the_diff_lists_exactly_the_fields_that_differ(tmp_path: Path) -> None:
    old = load(tmp_path)
    new = load(tmp_path, model__rate="0.25", num_steps="24", model__widths="(2, 3)")
    more = load(tmp_path, changes="config.extra = 3")

    assert describe_diff(old, new) == {"model.rate": (0.5, 0.25), "num_steps": (12, 24)}
    assert describe_diff(old, old) == {}
    assert describe_diff(old, more) == {"extra": (None, 3)}


def test_a_config_read_back_from_json_is_the_same(tmp_path: Path) -> None:
    for config in (load(tmp_path, model__scales="(1, 2)"), paper_config()):
        back = from_json(json.dumps(json.loads(canonical_json(config)), indent=2))

        assert back == config
        assert flatten(back) == flatten(config)
        assert config_hash(back) == config_hash(config)
    back = from_json(canonical_json(load(tmp_path)))
    assert back.model.nested == ((1, 2), (3,))  # tuples: lists could not be static arguments
    assert back.is_locked


def test_a_stored_config_gains_the_fields_the_loop_gained_since(tmp_path: Path) -> None:
    values = load(tmp_path).to_dict()
    del values["keep"], values["mesh"]

    back = from_json(json.dumps(values))

    assert back.keep == LOOP_DEFAULTS["keep"]
    assert back.mesh.to_dict() == LOOP_DEFAULTS["mesh"]


def test_a_config_path_may_start_at_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = next(iter(papers()[0].configs.values()))
    relative = path.relative_to(config_module.REPOSITORY)

    assert load_config(f"{relative}:cpu") == load_config(f"{path}:cpu")


def test_a_required_value_that_is_given_is_one_like_others(tmp_path: Path) -> None:
    config = load(
        tmp_path, changes="config.model.must = required_placeholder(float)", model__must="3"
    )

    assert config.model.must == 3.0 and isinstance(config.model.must, float)
    assert from_json(canonical_json(config)).model.must == 3.0


def test_the_builders_of_a_file_are_seen_without_importing_it(tmp_path: Path) -> None:
    file, spec = tmp_path / "own.py", "own.py:x"
    for text, names in (
        (
            "import os.path\nfrom math import pi as tau\ndef f(): inner = 1\ng = lambda: 0",
            "os tau f g",
        ),
        ("(a, b), c = (1, 2), 3\nd: int = 4\nclass E: y = 1", "a b c d E"),
        ("from os import *", None),
        ("if 1:\n    f = 2", None),
    ):
        file.write_text(text)
        found = builders(spec, str(tmp_path))
        assert found == (None if names is None else set(names.split()))
    for paper in papers():  # that each of their configs names one of these is a test of configs
        assert builders(f"{paper.name}:x", "")
    file.write_text("def f(:")
    with pytest.raises(UserError, match=r"own\.py: cannot be loaded: .*line 1"):
        builders(spec, str(tmp_path))


def test_a_convertible_text_round_trips() -> None:
    for value in (3, -2, 0.25, 1e-30, True, "text", (1, 2), (0.5,), ("a", "b")):
        text = value if isinstance(value, str) else repr(value)
        assert convert("x", text, value) == value
        assert type(convert("x", text, value)) is type(value)
