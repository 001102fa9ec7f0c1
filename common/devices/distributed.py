"""Start-up of several processes as one run, and the few things they must agree on.

Every process must call these functions in the same order, from its main thread: each is a
collective. In a single process all of them return at once, without looking for devices.
"""

import os
from collections import Counter
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from common.devices.rendezvous import VARIABLES, meet, read_environment
from common.errors import UserError, shortened

PyTree = Any


def initialize_from_environment(*, timeout_seconds: int = 300) -> str | None:
    """Joins the processes of one run; call it before anything asks JAX for devices.

    LAB_COORDINATOR (host:port of process 0), LAB_NUM_PROCESSES and LAB_PROCESS_ID say who is who.
    Without them JAX looks for a cluster it knows: TPU pods, SLURM, Open MPI, Kubernetes.

    Args:
        timeout_seconds: How long to wait for the other processes.

    Returns:
        The host of process 0, if the variables name it.

    Raises:
        UserError: If the variables are incomplete or wrong, no cluster is found, the processes do
            not meet, or their number does not fit the devices.
    """
    explicit = read_environment(os.environ)
    host = None
    if explicit is not None:
        coordinator, num_processes, process_id = explicit
        logging.info("process %d of %d: meeting at %s", process_id, num_processes, coordinator)
        meet(coordinator, num_processes, process_id, timeout_seconds=timeout_seconds)
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method="deactivate",
            initialization_timeout=timeout_seconds,
        )
        host = coordinator.rpartition(":")[0].strip("[]")
    else:
        try:
            jax.distributed.initialize(initialization_timeout=timeout_seconds)
        except ValueError as error:
            raise UserError(
                f"--distributed: JAX finds no cluster here; set {', '.join(VARIABLES)}"
            ) from error
        except RuntimeError as error:
            raise UserError(f"--distributed: {shortened(str(error), 300)}") from error
    _check_devices()
    return host


def is_single() -> bool:
    """Returns whether this process is a run of its own."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def is_lead() -> bool:
    """Returns whether this process is the one that writes files and talks to the user."""
    return is_single() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Returns when every process has come here; processes at different names are an error."""
    if not is_single():
        multihost_utils.sync_global_devices(name)


def broadcast_from_lead(tree: PyTree) -> PyTree:
    """Returns the lead's NumPy arrays in every process, bit by bit.

    Args:
        tree: Of the same structure, shapes and dtypes everywhere; values count in the lead only.
    """
    if is_single():
        return tree
    # As bytes: JAX would turn 64-bit numbers into 32-bit ones.
    arrays = jax.tree.map(lambda x: np.array(x, order="C"), tree)
    raw = jax.tree.map(lambda x: np.frombuffer(x.tobytes(), np.uint8), arrays)
    sent = multihost_utils.broadcast_one_to_all(raw)
    return jax.tree.map(
        lambda x, got: np.frombuffer(np.asarray(got).tobytes(), x.dtype).reshape(x.shape).copy(),
        arrays,
        sent,
    )


def any_process(flag: bool) -> bool:
    """Returns whether `flag` is true in any process; the same answer in all of them."""
    if is_single():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def _check_devices() -> None:
    """Checks that every process brought devices of its own."""
    counts = Counter(device.process_index for device in jax.devices())
    if len(counts) != jax.process_count():
        raise UserError(
            f"--distributed: {jax.process_count()} processes were started, but the "
            f"{jax.device_count()} devices belong to {len(counts)}; start one process for each "
            "host of the slice"
        )
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"process {index}: {count}" for index, count in sorted(counts.items()))
        raise UserError(
            f"--distributed: every process needs as many devices as the others ({shown})"
        )
