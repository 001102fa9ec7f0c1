"""What a config hash is made of: which fields name a run, and which do not."""

import json
from typing import Any

import pytest
from ml_collections import ConfigDict

from common.config import canonical_json, config_hash, load_config
from common.loop_fields import LATER_DEFAULTS, NOT_HASHED
from common.papers import papers
from common.values import flatten


def test_the_hash_ignores_seed_mesh_and_logging_and_nothing_else() -> None:
    path = next(iter(papers()[0].configs.values()))
    config = load_config(f"{path}:cpu")
    ignored = {"seed", "mesh.data", "log_every", "checkpoint_every", "keep", "config_dir"}
    assert {name.partition(".")[0] for name in ignored} == set(NOT_HASHED)

    for name, value in flatten(config).items():
        other = ConfigDict(config.to_dict())
        *sections, leaf = name.split(".")
        where = other
        for section in sections:
            where = where[section]
        with where.ignore_type():
            where[leaf] = ("another", value)
        same = config_hash(other) == config_hash(config)
        assert same == (name in ignored), name
    added = ConfigDict(config.to_dict())
    added.extra = 1
    assert config_hash(added) != config_hash(config)


@pytest.mark.parametrize(
    ("default", "other", "hashed"),
    [
        (1, 2, 2),
        ((1, 2), (1,), (1,)),
        (True, False, False),
        ({"name": "plain", "rho": 0.5}, {"name": "sam", "rho": 0.5}, {"name": "sam"}),
        ({"rho": 0.5}, {"rho": 0.5, "later": 3}, {"later": 3}),
    ],
)
def test_a_field_that_came_later_leaves_the_hashes_of_before(
    monkeypatch: pytest.MonkeyPatch, default: Any, other: Any, hashed: Any
) -> None:
    before = {"seed": 0, "batch_size": 8}
    monkeypatch.setitem(LATER_DEFAULTS, "field", default)
    stored = json.loads(json.dumps(default))  # config.json has lists for tuples

    assert config_hash(before) == config_hash({**before, "field": default})
    assert config_hash(before) == config_hash({**before, "field": stored})
    assert config_hash(before) == config_hash(ConfigDict({**before, "field": default}))
    changed = config_hash({**before, "field": other})
    monkeypatch.delitem(LATER_DEFAULTS, "field")
    assert changed == config_hash({**before, "field": hashed}) != config_hash(before)


def test_equal_configs_have_equal_json_whatever_the_order_of_their_fields() -> None:
    one, two = (
        ConfigDict(dict(a=1, b=dict(c=2, d=(3,)))),
        ConfigDict(dict(b=dict(d=(3,), c=2), a=1)),
    )

    assert canonical_json(one) == canonical_json(two) == '{"a":1,"b":{"c":2,"d":[3]}}'
