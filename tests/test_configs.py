"""Golden configs: a default that changes shows up in a diff, to be reviewed.

    UPDATE_GOLDEN=1 python -m pytest tests/test_configs.py

writes `tests/golden/*.json` again, after a change that was meant. A file holds the preset `paper`
of one config file whole, and of every other preset and data set what differs from it: how a run
deviates from the paper's.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from common.config import config_hash, from_json, load_config
from common.errors import UserError
from common.loop_fields import LATER_DEFAULTS
from common.values import flatten
from tests.processes import REPOSITORY
from tests.variants import Variant, config_files, golden_variants, lists, loaded

GOLDEN = REPOSITORY / "tests" / "golden"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
FILES = config_files()
WHOLE = "paper"
Values = dict[str, Any]


def text_of(values: Any) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def values_of(variant: Variant) -> Values:
    """Returns the resolved config; the folder of the config file is the machine's own.

    A field that came later and that no config file sets is left out, unless it is a section.
    """
    values = json.loads(json.dumps(loaded(variant.spec).to_dict()))
    later = {name: list(x) for name, x in LATER_DEFAULTS.items() if isinstance(x, tuple)}
    own = {name: value for name, value in values.items() if later.get(name) != value}
    del own["config_dir"]
    return own


def differences(old: Values, new: Values) -> Values:
    """Returns {dotted field: its value in `new`}, null for a field that `new` lacks."""
    flat_old, flat_new = flatten(old), flatten(new)
    names = flat_old.keys() | flat_new.keys()
    changed = {name for name in names if text_of(flat_old.get(name)) != text_of(flat_new.get(name))}
    return {name: flat_new.get(name) for name in changed}


def changed(old: Values, fields: Values) -> Values:
    """Returns `old` with `differences` applied."""
    new: Values = {}
    for name, value in {**flatten(old), **fields}.items():
        if value is None:
            continue
        *sections, last = name.split(".")
        section = new
        for key in sections:
            section = section.setdefault(key, {})
        section[last] = value
    return new


def golden_values(variants: list[Variant]) -> Values:
    """Returns what the golden file of a config file holds: its first variant is the whole one."""
    whole, *others = variants
    first = values_of(whole)
    different = {variant.arg: differences(first, values_of(variant)) for variant in others}
    return {whole.arg: first, "differences": different}


@pytest.mark.parametrize("name", FILES)
def test_every_preset_resolves_to_its_golden_config(name: str) -> None:
    path, variants = GOLDEN / f"{name}.json", golden_variants(name, first=WHOLE)
    now = golden_values(variants)
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text_of(now))
    assert path.is_file(), f"no {path.name}; UPDATE_GOLDEN=1 writes it"

    golden = json.loads(path.read_text())

    # Named fields first: the diff of a long file is hard to read.
    message = f"{path.name}: if meant, UPDATE_GOLDEN=1 and review"
    assert differences(golden, now) == {}, message
    assert path.read_text() == text_of(now), message
    whole = golden[variants[0].arg]
    for variant in variants:
        original = loaded(variant.spec)
        values = changed(whole, golden["differences"].get(variant.arg, {}))
        # Read back, it is the same run, tuples included: config.json of a run is such a text.
        again = from_json(json.dumps(values))
        assert config_hash(again) == config_hash(original), variant.name
        assert {**again.to_dict(), "config_dir": ""} == {**original.to_dict(), "config_dir": ""}
        assert text_of(values) == text_of(values_of(variant)), variant.name


def test_no_golden_config_is_left_of_what_is_gone() -> None:
    stale = [path for path in GOLDEN.glob("*") if path.name not in {f"{n}.json" for n in FILES}]
    for path in stale if UPDATE else []:
        path.unlink()

    assert UPDATE or not stale


def test_differences_lead_from_one_config_to_the_other() -> None:
    old = {"seed": 0, "model": {"width": 1, "depth": [2, 3], "only": {"here": True}}}
    new = {"seed": 1, "model": {"width": 1.0, "depth": [2, 3]}, "data": {"set": "mnist"}}

    found = differences(old, new)

    assert found == {"seed": 1, "model.width": 1.0, "model.only.here": None, "data.set": "mnist"}
    assert text_of(changed(old, found)) == text_of(new)
    assert differences(new, new) == {}


def test_variants_are_different_runs() -> None:
    variants = [variant for name in FILES for variant in golden_variants(name)]
    hashes = {variant.name: config_hash(loaded(variant.spec)) for variant in variants}

    assert len(set(hashes.values())) == len(hashes) == len(variants)


@pytest.mark.parametrize(("name", "path"), FILES.items(), ids=FILES)
def test_every_config_file_has_a_small_preset_and_refuses_unknown_ones(
    name: str, path: Path
) -> None:
    cpu = loaded(f"{path}:cpu")

    assert {"cpu", WHOLE} <= {*lists(path)["preset"]}
    assert cpu == load_config(str(path)), "cpu is the preset of those who name none"
    assert cpu.experiment == ":".join(name.rsplit(".", 1)), "a config is called as its experiment"
    with pytest.raises(UserError, match="'cpuu'.*cpu"):
        load_config(f"{path}:cpuu")
    for field, value in flatten(cpu).items():
        assert not (isinstance(value, str) and value.startswith("/") and field != "config_dir")
