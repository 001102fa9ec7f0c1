"""Where arrays live: rules by path, defaults, refusals in one line, rows on the right devices."""

import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from common import sharding
from common.errors import UserError
from common.sharding import Rules, fsdp
from tests.processes import Child


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """Four by two; one device stands for all eight, which is enough to lay arrays out."""
    return Mesh(np.full((4, 2), jax.devices()[0]), ("data", "model"))


def specs(tree: Any, rules: Rules, mesh: Mesh, prefix: str = "state", leading: int = 0) -> Any:
    found = sharding.shardings(tree, rules, mesh, prefix, leading=leading)
    return jax.tree.map(lambda x: x.spec, found, is_leaf=lambda x: isinstance(x, NamedSharding))


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


STATE = {"params": {"conv": {"kernel": array(8, 4), "bias": array(4)}}, "count": array()}


def test_the_first_rule_found_in_the_path_wins(mesh: Mesh) -> None:
    rules = ((r"conv/kernel$", P("model", "data")), (r"^state/params", P("data")))

    found = specs(STATE, rules, mesh)

    assert found["params"]["conv"] == {"kernel": P("model", "data"), "bias": P("data")}
    assert found["count"] == P()
    turned = specs(STATE, rules[::-1], mesh)
    assert turned["params"]["conv"] == {"kernel": P("data"), "bias": P("data")}


def test_without_rules_only_batches_are_split(mesh: Mesh) -> None:
    rows = {"x": array(8, 3), "scalar": array()}

    assert specs(rows, (), mesh, "batch") == {"x": P("data"), "scalar": P()}
    assert specs(rows, (), mesh, "state") == {"x": P(), "scalar": P()}
    assert specs(rows, (), mesh, "data") == {"x": P(), "scalar": P()}
    model_only = Mesh(np.full(2, jax.devices()[0]), ("model",))
    assert specs(rows, (), model_only, "batch") == {"x": P(), "scalar": P()}


def test_rules_reach_into_named_tuples_and_lists(mesh: Mesh) -> None:
    import optax

    params = {"w": array(8)}
    state = (params, jax.eval_shape(optax.adam(1e-3).init, params))
    rules = ((r"^state/1/0/(mu|nu)/w$", P("data")),)

    found = specs(state, rules, mesh)

    assert found[0]["w"] == P()
    assert (found[1][0].mu["w"], found[1][0].nu["w"]) == (P("data"), P("data"))
    assert found[1][0].count == P()


def test_the_steps_of_one_call_come_before_the_axes_the_rules_speak_of(mesh: Mesh) -> None:
    rows = {"x": array(5, 8, 3), "y": array(5, 8)}
    rules = ((r"batch/x", P("data", None)),)

    found = specs(rows, rules, mesh, "batch", leading=1)

    assert found == {"x": P(None, "data", None), "y": P(None, "data")}


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((8, 64), P(None, "data")),  # the largest side
        ((64, 8), P("data", None)),
        ((8, 63), P("data", None)),  # 63 does not divide
        ((63, 62), P()),  # no side divides by 4
        ((4, 4), P()),  # fewer than 32 elements
        ((), P()),
        ((2, 3, 12), P(None, None, "data")),
    ],
)
def test_fsdp_splits_the_largest_side_that_divides(
    mesh: Mesh, shape: tuple[int, ...], spec: P
) -> None:
    rules = ((r"", fsdp("data", min_size=32)),)

    assert specs({"w": array(*shape)}, rules, mesh)["w"] == spec


@pytest.mark.parametrize(
    ("tree", "rules", "prefix", "parts"),
    [
        ({"w": array(6)}, ((r"w", P("data")),), "state", ("state/w", "6", "data=4", "config.mesh")),
        ({"x": array(6, 2)}, (), "batch", ("batch/x", "6", "data=4", "multiple of 4")),
        ({"w": array(4)}, ((r"w", P(("data", "model"))),), "state", ("state/w", "data*model=8")),
        ({"w": array(4)}, ((r"w", P("pipe")),), "data", ("data/w", "'pipe'", "data, model")),
        ({"w": array(4)}, ((r"w", P(None, "data")),), "data", ("data/w", "more axes", "(4,)")),
        ({"w": array(4)}, ((r"w", fsdp("pipe")),), "state", ("fsdp('pipe')", "data, model")),
    ],
)
def test_a_wrong_rule_is_one_line_with_array_side_and_axis(
    mesh: Mesh, tree: Any, rules: Rules, prefix: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as error:
        specs(tree, rules, mesh, prefix)

    text = str(error.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("sizes", [{"data": 2, "model": 2}, {"data": -1, "model": 2}, {"data": 4}])
def test_a_mesh_that_does_not_fit_the_devices_is_named_with_their_number(
    sizes: dict[str, int],
) -> None:
    with pytest.raises(UserError, match=r"config\.mesh=.*number of devices, 3 \(cpu\)"):
        sharding.make_mesh(sizes, jax.devices() * 3)


class Chip:
    """What a mesh asks of a chip of a TPU slice that is not here."""

    device_kind, platform = "TPU v4", "tpu"
    core_on_chip = process_index = slice_index = 0

    def __init__(self, coords: tuple[int, ...]) -> None:
        self.coords = coords


def test_a_mesh_of_16_x_16_splits_a_side_of_a_torus_of_4_x_8_x_8_chips() -> None:
    chips = [Chip((x, y, z)) for z in range(8) for y in range(8) for x in range(4)]
    mesh = sharding.make_mesh({"data": 16, "seeds": 16}, chips)

    assert mesh.shape == {"data": 16, "seeds": 16}
    assert len({chip.coords for chip in mesh.devices.flat}) == 256
    for along in (mesh.devices[0], mesh.devices[:, 0]):  # a box of chips, which are neighbors
        sides = [len({chip.coords[axis] for chip in along}) for axis in range(3)]
        assert sorted(sides) == [1, 2, 8]


PLACED = """
import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from common import sharding

rows = {"x": np.arange(48).reshape(16, 3), "y": np.arange(4)}
found = {}
for name, sizes in {
    "data": {"data": -1}, "both": {"data": -1, "model": 2}, "model": {"data": 2, "model": -1}
}.items():
    mesh = sharding.make_mesh(sizes)
    rules = ((r"y", P("model")),) if "model" in sizes else ((r"y", P()),)
    placed = sharding.place(rows, sharding.shardings(rows, rules, mesh, "batch"))
    found[name] = {
        "sizes": dict(mesh.shape),
        "order": [d.id for d in mesh.devices.ravel()],
        "shards": {
            key: {part.device.id: np.asarray(part.data).tolist() for part in x.addressable_shards}
            for key, x in placed.items()
        },
        "whole": jax.tree.map(lambda x: np.asarray(x).tolist(), placed),
        "doubled": jax.jit(lambda x: 2 * x)(placed["x"]).tolist(),
    }
results["placed"] = found
"""


PMAPPED = """
import jax, numpy as np
from common.experiment import build
from tests.common.toys import toy_config

experiment = build(toy_config("regression"))
keys = jax.random.split(jax.random.key(0), 4)
states = jax.jit(jax.vmap(experiment.init))(keys)
data = jax.tree.map(jax.numpy.asarray, experiment.data())
batches = {"index": np.stack([experiment.batch(i)["index"] for i in range(4)])}
axes = (0, None, 0, 0)
mapped = jax.jit(jax.vmap(experiment.step, in_axes=axes))(states, data, batches, keys)
pmapped = jax.pmap(experiment.step, in_axes=axes, devices=jax.devices()[:4])
spread = pmapped(states, data, batches, keys)
assert len(jax.tree.leaves(spread)[0].devices()) == 4
pairs = zip(jax.tree.leaves(mapped), jax.tree.leaves(spread), strict=True)
results["pmap"] = [max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)]
losses = np.asarray(spread[1]["loss"])
results["pmap"].append(float(np.ptp(losses)))
"""


@pytest.fixture(scope="module")
def on_8_devices(child: Child) -> dict[str, Any]:
    """What both snippets found in one process."""
    ends = "import json", "results = {}", PLACED, PMAPPED, "print(json.dumps(results))"
    done = child("\n".join(ends), devices=8)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_device_holds_its_rows(on_8_devices: dict[str, Any]) -> None:
    found = on_8_devices["placed"]
    x, y = np.arange(48).reshape(16, 3), np.arange(4)

    expected_sizes = {
        "data": {"data": 8},
        "both": {"data": 4, "model": 2},
        "model": {"data": 2, "model": 4},
    }
    for name, sizes in expected_sizes.items():
        result = found[name]
        assert result["sizes"] == sizes
        num_data, num_model = sizes["data"], sizes.get("model", 1)
        for place, device in enumerate(result["order"]):
            row, column = divmod(place, num_model)
            shards = {key: np.array(parts[str(device)]) for key, parts in result["shards"].items()}
            assert np.array_equal(shards["x"], np.split(x, num_data)[row])
            assert np.array_equal(shards["y"], np.split(y, num_model)[column])
        assert result["whole"] == {"x": x.tolist(), "y": y.tolist()}
        assert result["doubled"] == (2 * x).tolist()


def test_a_step_under_pmap_does_what_it_does_under_vmap(on_8_devices: dict[str, Any]) -> None:
    # The loop does not use pmap, but others may.
    difference, spread = on_8_devices["pmap"]
    assert difference < 1e-6  # float32, values of order 1
    assert spread > 1e-3  # the four members do differ


def test_slices_each_hold_a_part_of_the_data_axis() -> None:
    kind = dict(platform="cpu", device_kind="cpu", process_index=0)
    # As the runtime may list them: not slice by slice.
    devices = [SimpleNamespace(id=k, slice_index=k % 2, **kind) for k in range(8)]

    def slices(sizes: dict[str, int]) -> list[list[int]]:
        placed = sharding._over_slices(sizes, 2, devices)
        return [[one.slice_index for one in row] for row in placed]

    assert slices({"data": 4, "model": 2}) == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert slices({"model": 2, "data": 4}) == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert slices({"member": 4, "model": 2}) == [[0, 0], [0, 0], [1, 1], [1, 1]]
    with pytest.raises(UserError, match="axis data, which is split over them, must be a multiple"):
        sharding._over_slices({"data": 1, "model": 8}, 2, devices)  # type: ignore[arg-type]
