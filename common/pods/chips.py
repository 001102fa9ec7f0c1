"""Chips (HBM, FLOPs, links) and topology names; nothing here needs JAX.

A topology is "v5e:16x16", a TPU slice as libtpu names it; "2xv5e:16x16", two of them that exchange
over the network of the data center; "h100:8", the GPUs of a machine; or "cpu:8", simulated devices
of this one. `environment` must be applied before JAX is imported.
"""

import importlib.util
import math
import os
import re
from typing import NamedTuple

from common.errors import UserError, nearest

GIB = 2**30


class Chip(NamedTuple):
    """Peaks of one device as JAX counts devices; None where no source gives a number.

    Attributes:
        flops: Dense bfloat16 FLOP/s. float32 products run at this rate too, unless a higher
            precision than the default is asked for.
        hbm_bytes: Usable memory: the compiler's own limit, the physical size less what it keeps.
        hbm_bandwidth: Bytes/s.
        ici_bandwidth: Bytes/s that a device can send over all its links to other chips.
        devices_per_chip: 2 where JAX sees each core of a chip as one device.
        dcn_bandwidth: Bytes/s that a device can send to other slices, its part of the host's.
    """

    flops: float | None
    hbm_bytes: int | None
    hbm_bandwidth: float | None
    ici_bandwidth: float | None
    devices_per_chip: int = 1
    dcn_bandwidth: float | None = None


class Generation(NamedTuple):
    """A TPU generation: its chip, and the shape of its largest slice."""

    chip: Chip
    largest: tuple[int, ...]


class Topology(NamedTuple):
    """A parsed topology name.

    Attributes:
        name: As given.
        platform: "tpu"; "gpu"; "cpu" for simulated devices; "local" for those that are here.
        generation: "v5e"; "h100"; "cpu" for simulated devices; "" if it has no entry here.
        shape: Chips along each side of a slice; (n,) for GPUs, simulated and local devices.
        chip: Peaks of one device.
        slices: How many slices of that shape.
    """

    name: str
    platform: str
    generation: str
    shape: tuple[int, ...]
    chip: Chip
    slices: int = 1

    @property
    def num_chips(self) -> int:
        """Chips of all slices."""
        return self.slices * math.prod(self.shape)


def _tpu(
    tflops: float,
    usable_gib: float,
    hbm_gb: float,
    ici_gb: float | None,
    largest: tuple[int, ...],
    cores: int = 1,
    dcn_gb: float | None = None,
) -> Generation:
    """Takes the numbers of a whole chip, except `usable_gib`, which is that of one device."""
    chip = Chip(
        flops=tflops * 1e12 / cores,
        hbm_bytes=int(usable_gib * GIB),
        hbm_bandwidth=hbm_gb * 1e9 / cores,
        ici_bandwidth=None if ici_gb is None else ici_gb * 1e9 / cores,
        devices_per_chip=cores,
        dcn_bandwidth=None if dcn_gb is None else dcn_gb * 1e9 / cores,
    )
    return Generation(chip, largest)


# bf16 TFLOP/s, HBM GB/s and ICI: the key specifications on docs.cloud.google.com/tpu/docs/<name>.
# ICI is given there for both directions together since 2025 (v5e 400, v5p and tpu7x 1200, v6e 800
# GB/s); a chip sends half of it, which agrees with the older pages (v5e 1600, v5p 4800 Gbit/s).
# v3 and v4: all-reduce bandwidth of a pod over its chips (340 TB/s / 1024; 1.1 PB/s / 4096).
# Usable GiB a device: read off "Used ... of 15.75G hbm", the refusal of an oversize program by
# the compiler (libtpu 0.0.41). Network of the data center, from the same pages: v5e has 2 x 100
# Gbit/s for a host of 8 chips, a chip of v5p 50 Gbit/s; the others do not say.
GENERATIONS: dict[str, Generation] = {
    "v2": _tpu(45, 7.48, 600, None, (16, 16), cores=2),
    "v3": _tpu(123, 15.48, 900, 332, (32, 32), cores=2),
    "v4": _tpu(275, 30.75, 1200, 268, (16, 16, 16)),
    "v5e": _tpu(197, 15.75, 819, 200, (16, 16), dcn_gb=3.125),
    "v5p": _tpu(459, 95.74, 2765, 600, (16, 16, 24), dcn_gb=6.25),
    "v6e": _tpu(918, 31.25, 1638, 400, (16, 16)),
    "tpu7x": _tpu(2307, 94.75, 7380, 600, (16, 24, 24), cores=2),
}
# What JAX calls a device of each generation.
DEVICE_KINDS = {
    "TPU v2": "v2",
    "TPU v3": "v3",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v6 lite": "v6e",
    "TPU7x": "tpu7x",
}
SIMULATED = Chip(flops=None, hbm_bytes=None, hbm_bandwidth=None, ici_bandwidth=None)
MAX_SIMULATED, MAX_SLICES = 512, 32
# H100 SXM, from its data sheet: 1,979 TFLOP/s with sparsity, half of it without; 900 GB/s over
# NVLink in both directions together. JAX takes 3/4 of the memory of a GPU
# (docs.jax.dev, "GPU memory allocation"); bandwidth and memory as the driver says them, `gpus.py`.
GPUS = {"h100": Chip(989.5e12, int(0.75 * 84_978_434_048), 3.35232e12, 450e9)}
GPUS_OF_A_MACHINE = 8
EXAMPLES = "v5e:4x4, v5e:16x16, v6e:8x8, v5p:4x4x8, v4:2x2x2, tpu7x:2x2x1, 2xv5e:8x8, h100:8, cpu:8"


def parse_topology(name: str) -> Topology:
    """Returns the topology that `name` stands for.

    Raises:
        UserError: If the name is none, or no slice of that shape exists.
    """
    slices, generation, sides = _parts(name)
    known = (*GENERATIONS, *GPUS, "cpu")
    shape = tuple(int(side) for side in re.findall(r"\d+", sides))
    if generation not in known or "x".join(map(str, shape)) != sides or not shape:
        hint = "" if generation in known else nearest(name, known)
        raise UserError(
            f"--topology={name!r}: expected generation:AxB[xC], h100:N or cpu:N{hint}; "
            f"generations: {', '.join(GENERATIONS)}; for example {EXAMPLES}"
        )
    if generation not in GENERATIONS:
        most = GPUS_OF_A_MACHINE if generation in GPUS else MAX_SIMULATED
        what = "GPUs of one machine" if generation in GPUS else "simulated devices"
        if slices != 1 or len(shape) != 1 or not 1 <= shape[0] <= most:
            raise UserError(
                f"--topology={name!r}: expected {generation}:N with N {what}, "
                f"1 <= N <= {most}, for example {generation}:8"
            )
        if generation in GPUS:
            return Topology(name, "gpu", generation, shape, GPUS[generation])
        return Topology(name, "cpu", generation, shape, SIMULATED)
    chip, largest = GENERATIONS[generation]
    _check_shape(name, generation, shape, largest)
    if not 1 <= slices <= MAX_SLICES:
        raise UserError(f"--topology={name!r}: expected 1 to {MAX_SLICES} slices, got {slices}")
    return Topology(name, "tpu", generation, shape, chip, slices)


def local_topology(device_kind: str, num_devices: int) -> Topology:
    """Returns the topology of the devices that are here; their peaks are known for TPUs only."""
    generation = DEVICE_KINDS.get(device_kind, "")
    chip = GENERATIONS[generation].chip if generation else SIMULATED
    shape = (math.ceil(num_devices / chip.devices_per_chip),)
    return Topology("local devices", "local", generation, shape, chip)


def environment(topology: Topology) -> dict[str, str]:
    """Returns the environment variables to set before JAX is imported.

    They keep libtpu from looking for a TPU, from writing to stderr, and from allowing only one
    process at a time. JAX's cache of compiled programs is off: it cannot read back programs for
    devices that are not there, and warns at each.

    Raises:
        UserError: If the topology needs a compiler that is not installed.
    """
    if topology.platform == "cpu":
        count = f"--xla_force_host_platform_device_count={topology.shape[0]}"
        flags = [*os.environ.get("XLA_FLAGS", "").split(), count]  # the last of two wins
        return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}
    require_compiler(topology)
    if topology.platform == "gpu":
        # The same step for as many CPUs says how many FLOPs it has (`aot.py`).
        cpus = environment(Topology("", "cpu", "cpu", topology.shape, SIMULATED))
        return {**cpus, "JAX_ENABLE_COMPILATION_CACHE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_LOG_DIR": "disabled",
        "TPU_MIN_LOG_LEVEL": "3",
        "TPU_STDERR_LOG_LEVEL": "3",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TPU_ACCELERATOR_TYPE": "v5litepod-16",  # any valid name; the topology is asked for later
        "TPU_WORKER_ID": "0",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }


def require_compiler(topology: Topology) -> None:
    """Checks that programs can be compiled for `topology`.

    Raises:
        UserError: If it needs libtpu, or JAX's plugin for GPUs, and that is not installed.
    """
    if topology.platform == "gpu" and not _is_installed("jax_plugins.xla_cuda12"):
        raise UserError(
            f"--topology={topology.name}: needs the GPU compiler, which is not installed: "
            "pip install --no-deps jax-cuda12-plugin jax-cuda12-pjrt, both of the version of jax "
            "(no GPU is needed; cpu:8 works without)"
        )
    if topology.platform == "tpu" and importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={topology.name}: needs the TPU compiler, libtpu, which is not installed: "
            "`make aot` in the checkout, else pip install .[aot] (no TPU is needed; cpu:8 works "
            "without)"
        )


def _parts(name: str) -> tuple[int, str, str]:
    """Returns slices, generation and sides of "2xv5e:16x16"; "" and "" if it is nothing like it."""
    found = re.fullmatch(r"(?:(\d{1,9})x)?([^:]*):(.*)", name)
    return (int(found[1] or 1), found[2], found[3]) if found else (1, "", "")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


def _check_shape(
    name: str, generation: str, shape: tuple[int, ...], largest: tuple[int, ...]
) -> None:
    if len(shape) != len(largest):
        example = "2x2" if len(largest) == 2 else "2x2x1"
        raise UserError(
            f"--topology={name!r}: {generation} slices have {len(largest)} sides, "
            f"for example {generation}:{example}"
        )
    # A host has 2x2 chips; a single chip is the only smaller slice.
    one_chip = math.prod(shape) == 1
    if not one_chip and any(side < 2 or side % 2 for side in shape[:2]):
        raise UserError(
            f"--topology={name!r}: the first two sides must be even (a host has 2x2 chips), "
            "or all of them 1"
        )
    too_long = any(a > b for a, b in zip(sorted(shape), sorted(largest), strict=True))
    if too_long or 0 in shape:
        raise UserError(
            f"--topology={name!r}: {generation} slices have sides of at least 1 and go up to "
            f"{'x'.join(map(str, largest))}"
        )
