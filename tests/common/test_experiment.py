"""The contract: what conformance refuses and why, finding builders, and training seeds together."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import sharding
from common.errors import UserError
from common.experiment import Experiment, build, check_experiment, data_shapes
from common.keys import root_key
from tests.common.toys import regression, toy_config, train, weights

PyTree = Any
LARGE = np.ones((256, 128), np.float32)  # 128 KiB, twice what may be closed over


@functools.cache
def on_device() -> jax.Array:
    """The same array as JAX holds it, made before it is closed over."""
    return jax.block_until_ready(jnp.asarray(LARGE))


def good() -> Experiment:
    return regression(toy_config())


def with_step(change: Callable[..., Any]) -> Experiment:
    """The good experiment with what its step returns changed."""
    one = good()

    def step(state: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
        return change(*one.step(state, data, batch, key))

    return one._replace(step=step)


@pytest.mark.parametrize("builder", [regression, weights])
def test_good_experiments_conform(builder: Callable[..., Experiment]) -> None:
    experiment = builder(toy_config())

    check_experiment(experiment)
    check_experiment(experiment._replace(final=experiment.evaluate))


def sum_of_large(x: Any) -> jax.Array:
    return jnp.sum(jnp.asarray(x) * jnp.float32(1e-9))


CLOSURES: dict[str, Callable[[], jax.Array]] = {
    "a NumPy array": lambda: sum_of_large(LARGE),
    "a JAX array": lambda: sum_of_large(on_device()),
    "inside jit": lambda: jax.jit(lambda x: x + sum_of_large(LARGE))(jnp.float32(0)),
    "inside scan": lambda: jax.lax.map(lambda x: x + sum_of_large(LARGE), jnp.zeros(2))[0],
    "inside jit inside scan": lambda: jax.lax.map(
        jax.jit(lambda x: x + sum_of_large(LARGE)), jnp.zeros(2)
    )[0],
    "inside checkpoint": lambda: jax.checkpoint(lambda x: x + sum_of_large(LARGE))(jnp.float32(0)),
}


@pytest.mark.parametrize("name", CLOSURES)
@pytest.mark.parametrize("where", ["step", "evaluate", "final"])
def test_a_large_array_in_a_closure_is_refused(name: str, where: str) -> None:
    def closing(state: PyTree, data: PyTree, key: jax.Array) -> Any:
        return {"error": (CLOSURES[name](), jnp.float32(1))}

    on_device()
    changes: dict[str, Any] = {where: closing}
    experiment = good()._replace(**changes)
    if where == "step":
        experiment = with_step(lambda state, metrics: (state, {"x": CLOSURES[name]()}))

    with pytest.raises(ValueError, match=rf"{where} closes over \d+ bytes of arrays.*as data"):
        check_experiment(experiment)
    check_experiment(experiment, max_constant_bytes=10**6)


def counting() -> Callable[[int], dict[str, np.ndarray]]:
    calls = iter(range(100))
    return lambda step: {"index": np.full(16, next(calls), np.int32)}


def refilling() -> Callable[[int], dict[str, np.ndarray]]:
    buffer = np.zeros(16, np.int32)

    def batch(step: int) -> dict[str, np.ndarray]:
        buffer[:] = step
        return {"index": buffer}

    return batch


INDEX = np.zeros(16, np.int32)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (counting(), r"batch\(0\)\['index'\] differs between two calls"),
        (refilling(), r"batch\(1\) overwrites batch\(0\)\['index'\]"),
        (lambda step: INDEX, "is a ndarray, expected a dict"),
        (lambda step: {"index": [1, 2]}, r"batch\(0\)\['index'\] is not a NumPy array"),
        (lambda step: {"index": INDEX[: 16 - step]}, r"int32\(16,\), but .* is int32\(15,\)"),
        (lambda step: {"index": INDEX.astype([np.int32, np.int64][step])}, "int64"),
        (lambda step: {"index": INDEX, f"x{step}": INDEX}, "'x0'.* 'x1'"),
    ],
)
def test_a_batch_that_is_no_pure_function_of_the_step_is_refused(
    batch: Callable[[int], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_experiment(good()._replace(batch=batch))


def cast(state: PyTree) -> PyTree:
    return state._replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params))


def more(state: PyTree) -> PyTree:
    return state._replace(params={**state.params, "new": jnp.zeros(1)})


def longer(state: PyTree) -> PyTree:
    return state._replace(params=jax.tree.map(lambda x: jnp.stack([x, x]), state.params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, m: (more(s), m), "changes the tree structure of the state"),
        (lambda s, m: (cast(s), m), r"state\.params\['hidden'\]\['bias'\] from float32.*bfloat16"),
        (lambda s, m: (longer(s), m), r"from float32\(16,\) to float32\(2, 16\)"),
        (lambda s, m: (s, {**m, "each": jnp.zeros(3)}), r"metric 'each' .* shape \(3,\)"),
        (lambda s, m: (s, {**m, "step": m["loss"]}), "metric called 'step'.*rename it"),
        (lambda s, m: (s, {**m, 3: m["loss"]}), "metric called 3; expected text"),
        (lambda s, m: s, r"does not return \(state, dict of metrics\)"),
        (lambda s, m: (s, m["loss"]), r"does not return \(state, dict of metrics\)"),
    ],
)
def test_a_step_that_changes_its_state_or_returns_vectors_is_refused(
    change: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_experiment(with_step(change))


@pytest.mark.parametrize("label", ["evaluate", "final"])
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"error": jnp.float32(1)}, r"'error' that is not \(sum, count\)"),
        ({"error": (jnp.zeros(3), jnp.float32(3))}, r"'error' that is not \(sum, count\)"),
        ({"error": (jnp.float32(1),) * 3}, r"'error' that is not \(sum, count\)"),
        (jnp.float32(1), r"does not return a dict of \(sum, count\)"),
        ({"kind": (jnp.float32(1),) * 2}, "metric called 'kind'"),
    ],
)
def test_an_evaluation_without_sums_and_counts_is_refused(
    label: str, returned: Any, message: str
) -> None:
    changes: dict[str, Any] = {label: lambda state, data, key: returned}
    experiment = good()._replace(**changes)

    with pytest.raises(ValueError, match=f"{label} .*{message}"):
        check_experiment(experiment)


def test_conformance_makes_no_data_where_shapes_are_known() -> None:
    def never() -> PyTree:
        raise AssertionError("made the data")

    shapes = data_shapes(good())
    assert shapes["x"] == jax.ShapeDtypeStruct((48, 4), jnp.float32)

    check_experiment(good()._replace(data=never, abstract_data=lambda: shapes))


USER_FILE = """
from tests.common.toys import regression

def mine(config):
    if config.batch_size > 16:
        raise ValueError(f"config.batch_size={config.batch_size}: expected at most 16")
    return regression(config)
"""


def test_a_builder_of_ones_own_is_found_beside_its_config_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(USER_FILE)
    config = toy_config(experiment="own.py:mine", config_dir=str(tmp_path))

    experiment = build(config)

    check_experiment(experiment)
    chex.assert_trees_all_equal(experiment.batch(3), good().batch(3))


@pytest.mark.parametrize(
    ("changes", "text", "message"),
    [
        ({"experiment": "own.py:mein"}, USER_FILE, 'no builder .mein.*did you mean "mine"'),
        ({"experiment": "other.py:mine"}, USER_FILE, r"'other\.py:mine'.*no such paper or file"),
        ({"experiment": "nfn.equivariant:nothing"}, "", "no builder 'nothing'"),
        ({"experiment": "nfn.nothing:mine"}, "", "no such paper or file"),
        (
            {"batch_size": 32},
            USER_FILE,
            r"own\.py:mine: config\.batch_size=32: expected at most 16",
        ),
        ({}, "def mine(:", r"own\.py: cannot be loaded: .*line 1"),
        ({}, "import no_such_module", r"own\.py: cannot be loaded: .*no_such_module"),
        ({}, "x = {}['y']", r"own\.py: cannot be loaded: KeyError: 'y' \(own\.py, line 1\)"),
        (
            {},
            "def mine(config):\n    return config.wdth",
            r"own\.py:mine: AttributeError.*wdth.*line 2",
        ),
        (
            {},
            "def mine(config):\n    pass",
            r"own\.py:mine: returned a NoneType, not an Experiment",
        ),
    ],
)
def test_a_builder_that_cannot_be_used_is_one_line(
    tmp_path: Path, changes: dict[str, Any], text: str, message: str
) -> None:
    (tmp_path / "own.py").write_text(text)
    config = toy_config(**{"experiment": "own.py:mine", "config_dir": str(tmp_path), **changes})

    with pytest.raises(UserError, match=message) as error:
        build(config)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def together() -> tuple[Any, list[Any]]:
    """State and metrics of seeds 3, 4, 5 trained as one group, and of each on its own."""
    group = toy_config(seed=3, seed_group=3)
    singles = [toy_config(seed=seed) for seed in (3, 4, 5)]
    return train(build(group), group), [train(build(config), config) for config in singles]


def test_a_group_sees_the_keys_and_batches_of_its_seeds_bit_by_bit(
    together: tuple[Any, list[Any]],
) -> None:
    group = toy_config(seed=3, seed_group=3)
    experiment = build(group)
    keys = jax.random.key_data(root_key(group))

    for member, seed in enumerate((3, 4, 5)):
        single = toy_config(seed=seed)
        assert np.array_equal(keys[member], jax.random.key_data(root_key(single)))
        for step in (0, 5):
            rows = {name: value[member] for name, value in experiment.batch(step).items()}
            chex.assert_trees_all_equal(rows, build(single).batch(step))
        noise = together[0][1]["noise"][:, member]
        assert np.array_equal(noise, together[1][member][1]["noise"])
    assert len(set(together[0][1]["noise"].ravel())) == 3 * 8


def test_a_group_trains_what_its_seeds_train_alone(together: tuple[Any, list[Any]]) -> None:
    (state, metrics), singles = together

    for member, (single_state, single_metrics) in enumerate(singles):
        one = jax.tree.map(lambda x, i=member: x[i], state)
        # vmap turns products into batched ones; 8 Adam steps carry on the last bits.
        chex.assert_trees_all_close(one, single_state, rtol=1e-3, atol=1e-5)
        losses = metrics["loss"][:, member]
        assert np.allclose(losses, single_metrics["loss"], rtol=1e-5)
    ends = metrics["loss"][-1]
    assert len(set(ends)) == 3


def test_a_group_is_evaluated_member_by_member(together: tuple[Any, list[Any]]) -> None:
    group = toy_config(seed=3, seed_group=3)
    experiment, single = build(group), good()
    data = experiment.data()
    keys = jax.random.split(jax.random.key(0), 3)

    total, count = experiment.evaluate(together[0][0], data, keys)["error"]

    assert total.shape == count.shape == (3,)
    for member, (state, _) in enumerate(together[1]):
        wanted, rows = single.evaluate(state, data, jax.random.key(member))["error"]
        assert np.isclose(total[member], wanted, rtol=1e-4)
        assert count[member] == rows == 48


def test_what_an_experiment_raises_while_traced_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from tests.common.toys import regression\n\n"
        "def mine(config):\n"
        "    one = regression(config)\n"
        "    return one._replace(evaluate=lambda state, data, key: {'x': data['z'].sum()},\n"
        "        step=lambda *_: None, batch=lambda step: {'x': [1]}, data=lambda: {'x': 'y'})\n"
    )
    experiment = build(toy_config(experiment="own.py:mine", config_dir=str(tmp_path)))
    key = jax.random.key(0)
    cases: tuple[tuple[Callable[..., Any], tuple[Any, ...], str], ...] = (
        (experiment.evaluate, (None, {}, key), r"evaluate: KeyError: 'z' \(own\.py, line 5\)"),
        (experiment.step, (None, {}, {}, key), r"step does not return \(state, dict of metrics\)"),
        (experiment.batch, (0,), r"batch\(0\)\['x'\] is not a NumPy array but a builtins.list"),
        (experiment.data, (), r"data/x is <U1\(\): expected numbers"),
    )

    for function, arguments, text in cases:
        with pytest.raises(UserError, match=rf"^own\.py:mine: {text}"):
            function(*arguments)


def test_the_rules_of_a_group_leave_the_member_axis_whole(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("""
import jax
import numpy as np
from tests.common.toys import regression

def mine(config):
    one = regression(config)
    rules = ((r"^state/params/hidden", jax.P(None, "data")), (r"^data/", jax.P("data")))
    batch = lambda step: {**one.batch(step), "step": np.int32(step)[None][0:1].reshape(())}
    return one._replace(rules=rules, batch=batch)
""")
    config = toy_config(experiment="own.py:mine", config_dir=str(tmp_path), seed_group=3)
    experiment = build(config)
    mesh = sharding.make_mesh({"data": -1})
    state = {"params": {"hidden": jnp.zeros((3, 4, 16))}}

    def spec(tree: PyTree, prefix: str) -> PyTree:
        found = sharding.shardings(tree, experiment.rules, mesh, prefix)
        return jax.tree.map(lambda x: x.spec, found)

    assert spec(state, "state")["params"]["hidden"] == jax.P(None, None, "data")
    assert spec(experiment.data(), "data")["x"] == jax.P("data")
    assert spec(experiment.batch(0), "batch") == {"index": jax.P(None, "data"), "step": jax.P()}
