"""Two processes over loopback act as one; whatever keeps them apart is a sentence."""

import os
import socket
import threading

import jax
import numpy as np
import pytest

from common.devices import distributed, rendezvous
from common.devices.rendezvous import meet
from common.errors import UserError
from tests.processes import free_port, run_pair

BOTH = """
import json
import numpy as np
from common.devices import distributed

distributed.initialize_from_environment(timeout_seconds=30)
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from common import sharding

index = jax.process_index()
mesh = sharding.make_mesh({"data": -1})
rows = np.arange(12.0, dtype=np.float32).reshape(4, 3)
target = jax.sharding.NamedSharding(mesh, P("data"))
placed = sharding.place({"x": rows}, {"x": target})["x"]
total = jax.jit(jax.shard_map(lambda x: jax.lax.psum(x.sum(0), "data"), mesh=mesh,
                in_specs=P("data"), out_specs=P()))(placed)
mine = {"wide": np.array([2.0**-60 + index, 1.0 + index]), "count": np.int64(2**40 + index),
        "none": np.zeros((0, 3)), "flag": np.array(index == 0), "strided": np.eye(3)[:, index]}
got = distributed.broadcast_from_lead(mine)
distributed.barrier("here")
print(json.dumps({
    "lead": distributed.is_lead(),
    "single": distributed.is_single(),
    "processes": jax.process_count(),
    "own_rows": sum(shard.data.shape[0] for shard in placed.addressable_shards),
    "total": np.asarray(total).tolist(),
    "wide": got["wide"].tolist(),
    "count": int(got["count"]),
    "dtypes": [str(got[name].dtype) for name in ("wide", "count", "flag")],
    "none": got["none"].shape,
    "flag": bool(got["flag"]),
    "strided": got["strided"].tolist(),
    "any": [distributed.any_process(index == 1), distributed.any_process(False)],
}))
"""


def test_two_processes_reduce_broadcast_and_meet() -> None:
    results = run_pair(BOTH)

    assert [r["lead"] for r in results] == [True, False]
    for result in results:
        assert (result["single"], result["processes"], result["own_rows"]) == (False, 2, 2)
        assert result["total"] == [18.0, 22.0, 26.0]  # columns of arange(12) in 4 rows
        # The lead's values, 64 bits of them, an empty array and a view with strides included.
        assert result["wide"] == [2.0**-60, 1.0]
        assert result["count"] == 2**40
        assert result["dtypes"] == ["float64", "int64", "bool"]
        assert result["none"] == [0, 3]
        assert result["flag"] is True
        assert result["strided"] == [1.0, 0.0, 0.0]
        assert result["any"] == [True, False]


def test_one_process_is_lead_and_gets_its_own_values_back() -> None:
    tree = {"a": np.arange(3), "b": np.float64(2.0**-60)}
    assert distributed.is_single() and distributed.is_lead()
    assert distributed.broadcast_from_lead(tree) is tree
    assert distributed.any_process(True) and not distributed.any_process(False)
    distributed.barrier("nobody else")
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LAB_NUM_PROCESSES": "2"}, "LAB_COORDINATOR, LAB_PROCESS_ID missing"),
        ({"LAB_COORDINATOR": "host"}, "LAB_COORDINATOR='host': expected host:port"),
        ({"LAB_COORDINATOR": "host:70000"}, "expected host:port"),
        ({"LAB_NUM_PROCESSES": "two"}, "LAB_NUM_PROCESSES='two': expected an integer"),
        ({"LAB_NUM_PROCESSES": "0"}, "LAB_NUM_PROCESSES='0'"),
        ({"LAB_PROCESS_ID": "2"}, "LAB_PROCESS_ID='2': expected 0 to 1"),
        ({"LAB_PROCESS_ID": "-1"}, "LAB_PROCESS_ID='-1': expected 0 to 1"),
    ],
)
def test_wrong_variables_are_refused(variables: dict[str, str], message: str) -> None:
    good = {"LAB_COORDINATOR": "host:8476", "LAB_NUM_PROCESSES": "2", "LAB_PROCESS_ID": "1"}
    assert distributed.read_environment(good) == ("host:8476", 2, 1)
    assert distributed.read_environment({}) is None

    complete = {} if "missing" in message else good
    with pytest.raises(UserError, match=message):
        distributed.read_environment({**complete, **variables})


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "3",
}


def test_a_task_of_slurm_is_left_to_jax() -> None:
    assert tuple(SLURM) == rendezvous.SLURM_VARIABLES
    assert rendezvous.read_environment(SLURM) is None


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        # What `salloc` and the shell of `sbatch` have.
        (("JOB_ID", "NTASKS"), "SLURM_STEP_NODELIST, SLURM_PROCID, SLURM_LOCALID"),
        (("JOB_ID", "NTASKS", "PROCID", "LOCALID"), "SLURM_STEP_NODELIST"),
        (("JOB_ID", "STEP_NODELIST", "PROCID", "LOCALID"), "SLURM_NTASKS"),
    ],
)
def test_a_shell_with_half_of_a_slurm_job_is_told_to_use_srun(
    there: tuple[str, ...], missing: str
) -> None:
    half = {f"SLURM_{name}": "1" for name in there}
    with pytest.raises(UserError, match=rf"but not {missing}; start the command with srun") as info:
        rendezvous.read_environment(half)
    assert all(name in str(info.value) for name in half)
    # A pod, or Open MPI, within a job of Slurm is not Slurm's to name.
    assert rendezvous.read_environment({**half, "TPU_WORKER_ID": "0"}) is None
    assert rendezvous.read_environment({**half, "OMPI_COMM_WORLD_RANK": "0"}) is None


def test_the_variables_of_slurm_are_those_that_jax_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jax._src.clusters.slurm_cluster import SlurmCluster

    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert SlurmCluster.is_env_present()
    assert (SlurmCluster.get_process_count(), SlurmCluster.get_process_id()) == (16, 3)
    for name in SLURM:
        monkeypatch.delenv(name)
        assert not SlurmCluster.is_env_present()
        monkeypatch.setenv(name, SLURM[name])


def test_processes_that_meet_are_let_go_and_the_port_is_free_again() -> None:
    port = free_port()
    for _ in range(2):  # at once again at the same port
        assert meetings(port, [(0, 3), (2, 3), (1, 3)]) == ["", "", ""]


def test_a_missing_process_is_named_in_all_others() -> None:
    answers = meetings(free_port(), [(0, 4), (2, 4)], seconds=0.5)
    assert answers == ["processes 1, 3 of LAB_NUM_PROCESSES=4 did not come within 0.5 s"] * 2


@pytest.mark.parametrize(
    ("processes", "problem"),
    [
        ([(0, 3), (1, 3), (1, 3)], "two processes have LAB_PROCESS_ID=1"),
        ([(0, 3), (1, 2)], "process 1 has LAB_NUM_PROCESSES=2, process 0 has 3"),
    ],
)
def test_processes_that_disagree_are_told(processes: list, problem: str) -> None:
    assert meetings(free_port(), processes) == [problem] * len(processes)


def test_a_stranger_at_the_port_does_not_count() -> None:
    port = free_port()

    def stranger() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")

    lead = threading.Thread(target=lambda: answers.append(answer(port, 0, 2, 5.0)))
    answers: list[str] = []
    lead.start()
    retry(stranger)
    assert answer(port, 1, 2, 5.0) == ""
    lead.join()
    assert answers == [""]


def test_nobody_at_the_coordinator_and_a_port_in_use_are_sentences() -> None:
    port = free_port()
    silent = answer(port, 1, 2, 0.3)
    assert silent.startswith(f"LAB_COORDINATOR=127.0.0.1:{port}: process 0 did not answer within")
    with socket.create_server(("", port)):
        assert f"cannot listen at port {port}" in answer(port, 0, 2, 0.3)


def answer(port: int, process_id: int, num_processes: int, seconds: float) -> str:
    """Returns what `meet` objects to, "" if the processes met."""
    try:
        meet(f"127.0.0.1:{port}", num_processes, process_id, timeout_seconds=seconds)
    except UserError as error:
        return str(error)
    return ""


def meetings(port: int, processes: list[tuple[int, int]], seconds: float = 10.0) -> list[str]:
    """Lets (process id, number of processes) meet, each in a thread; returns their answers."""
    answers = [""] * len(processes)

    def run(position: int, process_id: int, num_processes: int) -> None:
        answers[position] = answer(port, process_id, num_processes, seconds)

    threads = [threading.Thread(target=run, args=(i, *pair)) for i, pair in enumerate(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def retry(action) -> None:
    for _ in range(50):
        try:
            return action()
        except ConnectionRefusedError:
            threading.Event().wait(0.05)
    raise AssertionError("nobody listened")
