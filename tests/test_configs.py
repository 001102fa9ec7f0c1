"""Golden configs: a default that changes shows up in a diff, to be reviewed.

    UPDATE_GOLDEN=1 python -m pytest tests/test_configs.py

writes `tests/golden/*.json` again, after a change that was meant.
"""

import json
import os
from pathlib import Path

import pytest

from common.config import config_hash, describe_diff, flatten, from_json, load_config
from common.errors import UserError
from tests.processes import REPOSITORY
from tests.variants import Variant, config_files, config_module, golden_variants

GOLDEN = REPOSITORY / "tests" / "golden"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
VARIANTS = golden_variants()


def text_of(variant: Variant) -> str:
    """Returns the resolved config; the folder of the config file is the machine's own."""
    values = load_config(variant.spec).to_dict()
    del values["config_dir"]
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_preset_resolves_to_its_golden_config(variant: Variant) -> None:
    path, text = GOLDEN / f"{variant.name}.json", text_of(variant)
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.is_file(), f"no {path.name}; UPDATE_GOLDEN=1 writes it"

    golden, config = from_json(path.read_text()), from_json(text)

    # Named fields first: the diff of a long file is hard to read.
    assert describe_diff(golden, config) == {}, f"{path.name}: if meant, UPDATE_GOLDEN=1 and review"
    assert path.read_text() == text
    # Read back, it is the same run, tuples included: config.json of a run folder is this text.
    original = load_config(variant.spec)
    assert config_hash(golden) == config_hash(original)
    assert {**golden.to_dict(), "config_dir": ""} == {**original.to_dict(), "config_dir": ""}


def test_no_golden_config_is_left_of_what_is_gone() -> None:
    expected = {f"{variant.name}.json" for variant in VARIANTS}
    stale = [path for path in GOLDEN.glob("*") if path.name not in expected]
    for path in stale if UPDATE else []:
        path.unlink()

    assert UPDATE or not stale


def test_variants_are_different_runs() -> None:
    hashes = {variant.name: config_hash(load_config(variant.spec)) for variant in VARIANTS}

    assert len(set(hashes.values())) == len(hashes)


@pytest.mark.parametrize(("name", "path"), config_files().items(), ids=config_files())
def test_every_config_file_has_a_small_preset_and_refuses_unknown_ones(
    name: str, path: Path
) -> None:
    module = config_module(path)
    cpu = load_config(f"{path}:cpu")

    assert "cpu" in module.PRESETS
    assert cpu == load_config(str(path)), "cpu is the preset of those who name none"
    assert cpu.experiment == ":".join(name.rsplit(".", 1)), "a config is called as its experiment"
    with pytest.raises(UserError, match="'cpuu'.*cpu"):
        load_config(f"{path}:cpuu")
    for field, value in flatten(cpu).items():
        assert not (isinstance(value, str) and value.startswith("/") and field != "config_dir")
