"""Checkpoints across processes: killed writers, other meshes, several writers of one run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.checkpoints import checkpoint, manifest
from common.checkpoints.checkpoint import Checkpoints

SAVE_FOREVER = """
import sys
import jax.numpy as jnp
from common.checkpoints.checkpoint import Checkpoints
from absl import logging
logging.set_verbosity(logging.INFO)
with Checkpoints(sys.argv[1]) as checkpoints:
    start = max(checkpoints.steps(), default=0) + 1
    for step in range(start, 10_000):
        state = {str(i): jnp.full((64, 64), step + i / 32) for i in range(32)}
        checkpoints.save(step, state, extra={"step": step}, best=step % 3 == 0)
        print(step, flush=True)
"""


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that saves steps in an endless loop into tmp_path."""
    root = str(Path(checkpoint.__file__).parents[2])
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SAVE_FOREVER, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": root}
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_kill_9_leaves_the_newest_step_with_exactly_its_data(
    tmp_path: Path, saving: Callable[[], subprocess.Popen[str]], kills: int
) -> None:
    rng = np.random.default_rng(7)
    like = {str(i): jax.ShapeDtypeStruct((64, 64), jnp.float32) for i in range(32)}
    last = 0
    for _ in range(kills):
        process = saving()
        assert process.stdout is not None
        for _ in range(3):
            reported = int(process.stdout.readline())
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        later, noise = process.communicate()
        reported = int((later.split() or [reported])[-1])
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            restored = checkpoints.restore(like)
        assert restored is not None
        # The last reported save may be under way; the one before it was waited for.
        assert max(last, reported - 1) <= restored.step <= reported + 1
        assert restored.extra == {"step": restored.step}
        for i in range(32):
            assert (np.asarray(restored.state[str(i)]) == np.float32(restored.step + i / 32)).all()
        assert "Traceback" not in noise and "Event loop" not in noise
        assert set(manifest.verify(tmp_path).values()) == {None}
        last = restored.step


RESHARD = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from common.checkpoints.checkpoint import Checkpoints
def mesh(n):
    axis_types = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((n,), ("data",), axis_types=axis_types, devices=jax.devices()[:n])
def make(target):
    keys = jax.random.split(jax.random.key(3), 4)
    state = {"w": jnp.arange(32.0).reshape(8, 4), "b": jnp.ones(3, jnp.bfloat16), "keys": keys}
    return jax.tree.map(lambda x, s: jax.device_put(x, s), state, target)
def layout(m, *specs):
    return dict(zip(("w", "b", "keys"), (NamedSharding(m, s) for s in specs), strict=True))
one, two, four = mesh(1), mesh(2), mesh(4)
with Checkpoints(sys.argv[1]) as checkpoints:
    state = make(layout(four, P("data"), P(), P("data")))
    checkpoints.save(1, state)
    for target in (layout(one, P(), P(), P()), layout(two, P(None, "data"), P(), P("data"))):
        put = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
        like = jax.tree.map(put, state, target)
        back = checkpoints.restore(like).state
        for name in state:
            found = back[name].sharding  # P() and P(None) place alike
            assert found.is_equivalent_to(target[name], back[name].ndim), (found, target[name])
            data = jax.random.key_data if name == "keys" else (lambda x: x)
            assert np.array_equal(np.asarray(data(back[name])), np.asarray(data(state[name])))
print("resharded")
"""


def test_restores_onto_other_shardings(tmp_path: Path, child: Callable[..., Any]) -> None:
    code = RESHARD.replace("sys.argv[1]", repr(str(tmp_path)))
    result = child(code, devices=4, seconds=60.0)
    assert result.stdout == "resharded\n", result.stderr


TWO_PROCESSES = """
import os, sys
import jax, jax.numpy as jnp, numpy as np
index, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=index)
from jax.sharding import NamedSharding, PartitionSpec as P
from common.checkpoints import manifest
from common.checkpoints.checkpoint import Checkpoints
from common.errors import DataError
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
def make(v):
    out = {"w": split, "b": whole, "keys": split}
    keys = lambda: jax.random.split(jax.random.key(3), 2)
    init = lambda: {"w": v + jnp.arange(8.0), "b": v, "keys": keys()}
    return jax.jit(init, out_shardings=out)()
shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
like = jax.tree.map(shape, make(0.0))
add = jax.jit(lambda w: w + 1, donate_argnums=0)
with Checkpoints(folder) as checkpoints:
    for step in (1, 2, 3):
        state = make(float(step))
        checkpoints.save(step, state, best=step == 1)
        add(state["w"])
    assert checkpoints.steps() == (1, 2, 3), checkpoints.steps()
    if index == 0:
        os.truncate(f"{folder}/3/MANIFEST.json", 10)
    back = checkpoints.restore(like)
    assert back.step == 2
    for name, shape in like.items():
        assert back.state[name].sharding.is_equivalent_to(shape.sharding, shape.ndim)
    for found, wanted in zip(
        back.state["w"].addressable_shards, make(2.0)["w"].addressable_shards, strict=True
    ):
        assert np.array_equal(found.data, wanted.data)
    if index == 0:
        def fail(*args, **options):
            raise OSError(28, "No space left on device")
        manifest.write = fail
    checkpoints.save(4, make(4.0))
    try:
        checkpoints.wait()
    except DataError as error:
        print(error)
    assert checkpoints.steps() == (1, 2)
jax.distributed.shutdown()
"""


@pytest.mark.slow
def test_two_processes_save_restore_and_fail_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(Path(checkpoint.__file__).parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(index), str(port), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=90) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "step 4 was not saved: No space left on device" in outputs[0][0]
    assert "another process could not save" in outputs[1][0]
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "refused-3"]
