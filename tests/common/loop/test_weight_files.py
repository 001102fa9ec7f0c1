"""Weights that leave a run as a file, and files that a run begins from."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from common import runs, sharding
from common.checkpoints import weights
from common.checkpoints.checkpoint import Checkpoints
from common.config import config_hash, load_config
from common.errors import DataError, LabError, UserError
from common.experiment import build
from common.jobs import trainings
from common.loop import train, warm_start
from common.loop.export import export
from common.loop.metrics import read_metrics
from common.run_folders.records import run_directory
from tests.common.states import make_state
from tests.processes import REPOSITORY, Child
from tests.small_runs import power_cut


def tiny(folder: Path, **fields: Any) -> ConfigDict:
    """Returns the config of the line fit, whose code is in `folder`: 20 steps."""
    config = load_config(f"{folder}/config.py:cpu").copy_and_resolve_references()
    config.update({"num_steps": 20, **fields})
    return config.lock()


def fit(folder: Path, config: ConfigDict) -> runs.Run:
    train.fit(build(config), config, folder)
    return runs.read(folder)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    for name in ("config.py", "experiment.py"):
        shutil.copy(REPOSITORY / "tests/tiny" / name, folder)
    return folder


@pytest.fixture(scope="module")
def source(code: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A finished run."""
    return fit(tmp_path_factory.mktemp("source") / "seed0", tiny(code))


@pytest.mark.parametrize("suffix", weights.SUFFIXES)
def test_a_run_begins_from_a_file_as_from_the_run_it_was_exported_from(
    code: Path, source: runs.Run, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"slope{suffix}"
    best = export(source, file)

    arrays, facts, sha256 = weights.load(file)
    loaded = runs.load(source.path)
    np.testing.assert_array_equal(arrays["slope"], loaded.state.params["slope"])
    assert (facts["step"], facts["seed"]) == (best, 0)
    assert config_hash(facts["config"]) == facts["config_hash"] == config_hash(source.config)
    assert facts["code"].keys() == {"experiment.py"} and facts["environment"]["packages"]["jax"]
    if suffix == ".npz":
        return  # the same arrays: the same run
    from_run, from_file = (
        fit(tmp_path / name, tiny(code, init_from=str(start), num_steps=10))
        for name, start in (("run", source.path), ("file", file))
    )
    first = [read_metrics(run.path / "metrics.jsonl")[0] for run in (from_run, from_file)]
    assert first[0] == first[1]
    assert from_run.result and from_file.result
    assert from_file.result["state_sha256"] == from_run.result["state_sha256"]
    assert from_file.result["init_from"] == {"sha256": sha256}
    assert from_run.result["init_from"] == {
        "config_hash": facts["config_hash"],
        "seed": 0,
        "step": best,
    }


def test_the_digest_in_a_file_of_the_last_step_is_that_of_the_run(
    source: runs.Run, tmp_path: Path
) -> None:
    assert source.result is not None
    assert export(source, tmp_path / "w.npz", "last") == 20
    facts = weights.load(tmp_path / "w.npz").metadata
    assert facts["state_sha256"] == source.result["state_sha256"]


def saved_run(folder: Path, config: ConfigDict, state: Any) -> runs.Run:
    """Returns a run that was saved at step 1, and then cut off."""
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, state)
    (folder / "config.json").write_text(config.to_json())
    return runs.read(folder)


def test_of_a_seed_group_one_seed_is_exported(code: Path, tmp_path: Path) -> None:
    slopes = np.arange(8, dtype=np.float32).reshape(2, 4)
    config = tiny(code, seed=3, seed_group=2)
    group = saved_run(tmp_path / "seeds3-4", config, {"params": {"slope": slopes}})
    with pytest.raises(UserError, match="--seed says which of seeds 3 to 4"):
        export(group, tmp_path / "w.npz")
    with pytest.raises(UserError, match="--seed=5: .* has seeds 3 to 4"):
        export(group, tmp_path / "w.npz", seed=5)

    export(group, tmp_path / "w.npz", seed=4)

    arrays, facts, _ = weights.load(tmp_path / "w.npz")
    assert facts["seed"] == 4
    np.testing.assert_array_equal(arrays["slope"], slopes[1])


def test_no_bit_is_lost_where_jax_holds_fewer(code: Path, tmp_path: Path) -> None:
    with jax.enable_x64(True):
        run = saved_run(tmp_path / "run", tiny(code, x64=True), {"params": np.ones(3) / 3})
    with pytest.raises(UserError, match="params is float64, which JAX holds only if"):
        export(run, tmp_path / "w.npz")


def test_a_state_of_all_kinds_is_exported_and_no_code_is_run(tmp_path: Path, code: Path) -> None:
    config, state = tiny(code).copy_and_resolve_references(), make_state(1.0)
    config.config_dir = str(tmp_path)
    (tmp_path / "experiment.py").write_text("raise RuntimeError('was run')\ndef line(): ...\n")

    export(saved_run(tmp_path / "run", config, state), tmp_path / "w.safetensors")

    arrays = weights.load(tmp_path / "w.safetensors").arrays
    assert arrays.keys() == {"dense/kernel", "dense/bias", "half/0", "half/1"}
    half = np.asarray(state.params["half"][0])
    assert arrays["half/0"].tobytes() == half.tobytes() and arrays["half/0"].dtype == half.dtype


def test_a_file_that_has_changed_is_refused_and_one_that_is_gone_is_not_needed(
    code: Path, tmp_path: Path, child: Child
) -> None:
    file = tmp_path / "slope.npz"
    weights.save(file, {"slope": np.arange(4, dtype=np.float32)})
    config = tiny(code, init_from=str(file))
    run = run_directory(tmp_path, config)
    with pytest.raises(RuntimeError, match="power cut"):
        train.fit(power_cut(build(config), 15), config, run)
    weights.save(file, {"slope": np.ones(4, np.float32)}, overwrite=True)
    with pytest.raises(DataError, match=r"config\.init_from='.*the run began from another file"):
        fit(run, config)
    kept = file.rename(tmp_path / "kept.npz")

    options = [f"--config.{name}={config[name]}" for name in ("init_from", "num_steps")]
    done = child(["train", f"--config={code}/config.py:cpu", *options, f"--workdir={tmp_path}"])

    assert done.returncode == 0, done.stderr
    finished = runs.read(run)
    assert finished.result and list(finished.result["init_from"]) == ["sha256"]
    kept.rename(file)
    with pytest.raises(DataError, match="the run began from another file"):
        fit(run, config)
    with pytest.raises(DataError, match="the run began from another file"):  # a sweep or a table
        trainings.check_code([(run, finished.result, finished.result["code"])], allowed=True)


class NetworkState(NamedTuple):
    params: Any
    model_state: Any


def network_state(kernel: Any, bias: Any, dense: Any, mean: Any) -> NetworkState:
    params = {"conv": {"kernel": kernel, "bias": bias}, "out": {"kernel": dense}}
    state = NetworkState(params, {"norm": {"mean": mean}})
    whole = sharding.replicated(sharding.make_mesh({"data": 1}, jax.devices()[:1]))
    return sharding.place(state, jax.tree.map(lambda _: whole, state))


def outputs(state: NetworkState, images: np.ndarray) -> jax.Array:
    """A convolution, a mean taken off, an average over the image, and a linear layer."""
    kernel, bias = state.params["conv"]["kernel"], state.params["conv"]["bias"]
    layout = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(
        jnp.asarray(images), kernel, (1, 1), "VALID", dimension_numbers=layout
    )
    shift = bias - state.model_state["norm"]["mean"]
    features = (maps + shift[None, None, None]).mean((1, 2))
    return features @ state.params["out"]["kernel"]


def as_published(images: np.ndarray, file: Mapping[str, np.ndarray]) -> np.ndarray:
    """The same network by the definitions of PyTorch: Conv2d on NCHW with OIHW, Linear as x W^T."""
    x, kernel = images.transpose(0, 3, 1, 2).astype(np.float64), file["conv1.weight"]
    height, width = (x.shape[2 + i] - kernel.shape[2 + i] + 1 for i in range(2))
    maps = np.zeros((len(x), len(kernel), height, width))
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            part = x[:, :, i : i + height, j : j + width]
            maps += np.einsum("bchw,oc->bohw", part, kernel[:, :, i, j])
    shift = file["conv1.bias"] - file["bn1.running_mean"]
    return (maps + shift[:, None, None]).mean((2, 3)) @ file["fc.weight"].T


PUBLISHED = (
    (r"conv1\.weight", "conv/kernel", (2, 3, 1, 0)),
    (r"conv1\.bias", "conv/bias"),
    (r"fc\.weight", "out/kernel", (1, 0)),
    (r"bn1\.running_mean", "model_state/norm/mean"),
    (r".*num_batches_tracked", ""),
)


def published(random: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = {"conv1.weight": (5, 2, 3, 2), "conv1.bias": (5,), "fc.weight": (4, 5)}
    shapes |= {"bn1.running_mean": (5,)}
    draws = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    draws = {name: array.astype(np.float32) for name, array in draws.items()}
    return {**draws, "bn1.num_batches_tracked": np.array(7)}


def fresh() -> NetworkState:
    zeros = (np.zeros(shape, np.float32) for shape in ((3, 2, 2, 5), (5,), (5, 4), (5,)))
    return network_state(*zeros)


def begin(state: NetworkState, file: Path, names: Any = PUBLISHED) -> NetworkState:
    config = ConfigDict({"init_from": str(file), "init_from_names": names})
    return warm_start.warm_start(state, config)[0]


def test_published_weights_make_the_same_network(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    file, images = published(random), random.standard_normal((3, 6, 7, 2)).astype(np.float32)
    save_file(file, tmp_path / "published.safetensors", {"format": "pt"})

    state = begin(fresh(), tmp_path / "published.safetensors")

    # float32 sums of 12 products: a few units in the last place of outputs of size 1.
    np.testing.assert_allclose(outputs(state, images), as_published(images, file), atol=1e-5)


def test_without_statistics_in_the_file_they_begin_as_the_network_has_them(tmp_path: Path) -> None:
    file = published(np.random.default_rng(0))
    del file["bn1.running_mean"]
    weights.save(tmp_path / "w.npz", file)

    state = begin(fresh(), tmp_path / "w.npz")

    np.testing.assert_array_equal(state.params["out"]["kernel"], file["fc.weight"].T)
    np.testing.assert_array_equal(state.model_state["norm"]["mean"], np.zeros(5))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"conv1.weight": None}, "it has no conv/kernel; "),
        ({"conv2.weight": np.zeros(2)}, "this run has no conv2.weight; "),
        ({f"a{i}": np.zeros(1) for i in range(6)}, "this run has no a0, a1, a2, a3 and 2 more; "),
        (
            {"fc.weight": np.zeros((5, 4), np.float32)},
            "out/kernel is float32[4, 5] there, float32[5, 4] here; config.init_from_names renames",
        ),
        ({"conv1.bias": np.zeros(5)}, "conv/bias is float64[5] there, float32[5] here"),
        ({"fc.weight": np.zeros(5)}, "the axes (1, 0) of out/kernel do not fit fc.weight"),
    ],
)
def test_a_mismatch_is_one_line_that_names_it(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    file = {**published(np.random.default_rng(0)), **change}
    weights.save(tmp_path / "w.npz", {k: v for k, v in file.items() if v is not None})

    with pytest.raises(UserError) as caught:
        begin(fresh(), tmp_path / "w.npz")

    assert str(caught.value).startswith(f"config.init_from='{tmp_path}/w.npz': ")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_state_without_parameters_has_no_weights(tmp_path: Path) -> None:
    weights.save(tmp_path / "w.npz", {"a": np.zeros(1)})
    config = ConfigDict({"init_from": str(tmp_path / "w.npz"), "init_from_names": ()})
    with pytest.raises(LabError, match="needs a field `params`"):
        warm_start.warm_start({"weights": jnp.zeros(1)}, config)
    with pytest.raises(UserError, match="may not be called 'model_state'"):
        weights.names(["params/model_state/a", "model_state/a"])
