"""Compiles the programs of an experiment for devices that are not here, and says what they cost.

`compile_report` takes the same programs as the loop (`common.loop.program`) and compiles them for a
TPU slice with libtpu, no TPU needed, for GPUs likewise, or for simulated devices of this machine.
The environment of `common.pods.chips.environment` must be set before JAX is imported.
"""

import math
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from common import sharding
from common.errors import DoesNotFit, UserError
from common.experiment import Experiment, programs_of_state
from common.loop import program
from common.pods import gpus, hlo, hlo_loops
from common.pods.aot_report import CompileReport, Memory, ProgramReport, Roofline
from common.pods.chips import GIB, Chip, Topology, local_topology, parse_topology, require_compiler

PyTree = Any
# The pod preset of nfn.equivariant for v5e:16x16: 11 CPU seconds instead of 66 (libtpu 0.0.41), 18
# instead of 82 (libtpu 0.0.50.1, which knows the option of the other no more).
_QUICK: dict[str, Any] = (
    {"optimization_level": "O0"}
    if jax.__version_info__ >= (0, 12)
    else {"exec_time_optimization_effort": -1.0}
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


def compile_report(
    experiment: Experiment,
    config: ConfigDict,
    topology: str | None,
    *,
    evaluate: bool = False,
    quick: bool = False,
) -> CompileReport:
    """Compiles the step of `experiment` for `topology` and returns what it costs.

    Several steps per call are compiled as one, which is what the report is about.

    Args:
        experiment: As `common.experiment.build(config)` returns it.
        config: Its config; `config.mesh` must fit the number of devices.
        topology: "v5e:16x16", "h100:8", "cpu:8" (`chips.parse_topology`); None: the devices here.
        evaluate: Compile `evaluate`, `final` and `measures` as well.
        quick: Let the compiler optimize less, several times faster for TPUs. Arguments, FLOPs and
            collectives stay; temporaries and traffic are those of a worse program.

    Raises:
        UserError: If the topology is unknown or the mesh does not fit it.
        DoesNotFit: If a device has too little memory.
    """
    if topology is None:
        devices = jax.devices()
        target = local_topology(devices[0].device_kind, len(devices))
    else:
        target = parse_topology(topology)
        devices = topology_devices(target)
    mesh = sharding.make_mesh(dict(config.mesh), devices)
    config = ConfigDict({**config.to_dict(), "steps_per_call": 1})
    layout = program.layout(experiment, config, mesh)
    _check_arguments(layout, target, devices[0].device_kind)
    lowerings = _lowerings(experiment, config, layout, evaluate=evaluate)
    counted = _counted(experiment, config, target, evaluate=evaluate)
    calls = {measure.name: measure.calls for measure in experiment.measures}
    reports = []
    for name, lower in lowerings.items():
        start = time.perf_counter()
        compiled = _compile(lower(), name, target, devices[0].device_kind, quick)
        cpu = counted[name]().compile(compiler_options=_QUICK) if counted else None
        found = _program_report(name, compiled, target.chip, time.perf_counter() - start, cpu)
        _check_total(found, target, devices[0].device_kind)
        reports.append(found._replace(calls=calls.get(name, 1)))
    return CompileReport(
        experiment=config.experiment,
        topology=target.name,
        device=devices[0].device_kind,
        num_chips=target.num_chips,
        num_devices=len(devices),
        mesh=dict(mesh.shape),
        num_params=program.count_parameters(layout.state),
        global_batch=_global_batch(config, layout.batches),
        hbm_available=target.chip.hbm_bytes,
        quick=quick,
        programs=tuple(reports),
    )


def _lowerings(
    experiment: Experiment, config: ConfigDict, layout: program.Layout, *, evaluate: bool
) -> dict[str, Callable[[], Any]]:
    """Returns functions that lower the programs of an experiment, by name."""
    lowerings = {"step": lambda: program.lower_step(experiment, config, layout)}
    if evaluate:
        lowerings |= {
            name: partial(program.lower_evaluate, function, layout)
            for name, function in programs_of_state(experiment).items()
        }
    return lowerings


def _counted(
    experiment: Experiment, config: ConfigDict, target: Topology, *, evaluate: bool
) -> dict[str, Callable[[], Any]]:
    """Returns what counts FLOPs where the compiler for GPUs does not: the programs for CPUs."""
    if target.platform != "gpu":
        return {}
    cpus = sharding.make_mesh(dict(config.mesh), jax.devices("cpu")[: target.num_chips])
    return _lowerings(
        experiment, config, program.layout(experiment, config, cpus), evaluate=evaluate
    )


def topology_devices(topology: Topology) -> list[jax.Device]:
    """Returns the devices of a topology: descriptions to compile for, or simulated ones.

    Raises:
        UserError: If this process has too few simulated devices, or the compiler is not installed.
    """
    require_compiler(topology)
    if topology.platform == "cpu":
        (count,) = topology.shape
        devices = jax.devices("cpu")
        if len(devices) < count:
            raise UserError(
                f"--topology={topology.name}: this process has {len(devices)} simulated devices; "
                f"set XLA_FLAGS=--xla_force_host_platform_device_count={count}"
            )
        return devices[:count]
    if topology.platform == "gpu":
        (count,) = topology.shape
        node = topologies.get_topology_desc(**gpus.topology_arguments(topology.generation, count))
        return list(node.devices)
    options: dict[str, Any] = {}
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    if topology.generation == "v4":
        options["chip_config_name"] = "megacore"  # one device a chip, as v4 is used
    if math.prod(topology.shape) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    name = f"{topology.generation}:{'x'.join(map(str, topology.shape))}"
    pod = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    return list(pod.devices)


def _check_arguments(layout: program.Layout, topology: Topology, device: str) -> None:
    """Refuses arrays that do not fit before the compiler spends minutes on it."""
    parts = {"state": layout.state, "data": layout.data, "batch": layout.batches}
    sizes = {name: sum(map(_bytes_on_device, jax.tree.leaves(x))) for name, x in parts.items()}
    available = topology.chip.hbm_bytes
    if available is not None and sum(sizes.values()) > available:
        parts_text = ", ".join(f"{name} {_gib(size)}" for name, size in sizes.items() if size)
        needed = f"at least {_gib(sum(sizes.values()))} ({parts_text})"
        raise _does_not_fit("step", topology, device, needed, available)


def _bytes_on_device(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.sharding.shard_shape(leaf.shape)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return 8 * math.prod(shape)  # two words
    return leaf.dtype.itemsize * math.prod(shape)


def _compile(lowered: Any, name: str, topology: Topology, device: str, quick: bool) -> Any:
    try:
        if topology.platform == "gpu":
            return gpus.compiled(lowered)
        return lowered.compile(compiler_options=_QUICK if quick else None)
    except jax.errors.JaxRuntimeError as error:
        sizes = _out_of_memory(str(error))
        if sizes is None:
            raise
        needed, available = sizes
        needed += " (perhaps less without --quick)" if quick else ""
        available = topology.chip.hbm_bytes or available
        raise _does_not_fit(name, topology, device, needed, available) from error


def _out_of_memory(message: str) -> tuple[str, float] | None:
    """Returns (needed, available bytes) from the compiler's refusal, None if it is another."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    number = r"([\d.]+)([KMGT]?)"
    used = rf"Used {number} of {number} hbm"
    later = rf"temporaries \({number}\) exceeds available HBM \({number}\)"  # libtpu 0.0.50
    if total := re.search(used, message) or re.search(later, message):
        return _gib(float(total[1]) * _UNITS[total[2]]), float(total[3]) * _UNITS[total[4]]
    if one := re.search(r"size=(\d+)\) would exceed memory \(size=(\d+)\)", message):
        return f"at least {_gib(float(one[1]))} (a single array)", float(one[2])
    return None


def _does_not_fit(
    name: str, topology: Topology, device: str, needed: str, available: float
) -> DoesNotFit:
    return DoesNotFit(
        f"{name} does not fit {topology.name}: needs {needed} on each {device}, which has "
        f"{_gib(available)}; lower config.batch_size, or split more arrays by the experiment's "
        "rules and config.mesh"
    )


def _check_total(found: ProgramReport, topology: Topology, device: str) -> None:
    """Refuses what the compiler for GPUs, unlike that for TPUs, lets pass."""
    available = topology.chip.hbm_bytes
    if topology.platform == "gpu" and available and found.memory.total > available:
        raise _does_not_fit(found.name, topology, device, _gib(found.memory.total), available)


def _program_report(
    name: str, compiled: Any, chip: Chip, seconds: float, counted: Any = None
) -> ProgramReport:
    """Returns what a program costs; its FLOPs are those of `counted`, if that is given."""
    sizes = compiled.memory_analysis()
    module = hlo.read_module(compiled.as_text())
    collectives = hlo.collectives(module)
    flops, bytes_accessed = _counts(compiled, module)
    if counted is not None:
        flops, _ = _counts(counted, hlo.read_module(counted.as_text()))
        bytes_accessed = hlo_loops.traffic(module)
    return ProgramReport(
        name=name,
        memory=Memory(
            arguments=sizes.argument_size_in_bytes,
            outputs=sizes.output_size_in_bytes,
            aliased=sizes.alias_size_in_bytes,
            temporaries=sizes.temp_size_in_bytes,
            total=sizes.argument_size_in_bytes
            + sizes.output_size_in_bytes
            - sizes.alias_size_in_bytes
            + sizes.temp_size_in_bytes,
        ),
        flops=flops,
        bytes_accessed=bytes_accessed,
        collectives=collectives,
        unknown_loops=module.unknown_loops,
        roofline=_roofline(flops, bytes_accessed, collectives, chip),
        compile_seconds=seconds,
    )


def _counts(compiled: Any, module: hlo.Module) -> tuple[float, float]:
    """Returns FLOPs and bytes accessed, loops counted as often as they run."""
    flop_factor, traffic_factor = hlo_loops.loop_factors(module)
    cost = compiled.cost_analysis() or {}
    return cost.get("flops", 0.0) * flop_factor, cost.get("bytes accessed", 0.0) * traffic_factor


def _roofline(
    flops: float, bytes_accessed: float, collectives: dict[str, hlo.Collectives], chip: Chip
) -> Roofline | None:
    across = sum(c.sent for kind, c in collectives.items() if kind.endswith(hlo.BETWEEN_SLICES))
    inside = sum(c.sent for c in collectives.values()) - across
    links = ((inside, chip.ici_bandwidth), (across, chip.dcn_bandwidth))
    unknown = any(sent and bandwidth is None for sent, bandwidth in links)
    if chip.flops is None or chip.hbm_bandwidth is None or unknown:
        return None
    compute, memory = flops / chip.flops, bytes_accessed / chip.hbm_bandwidth
    exchange = sum(sent / bandwidth for sent, bandwidth in links if bandwidth)
    return Roofline(compute, memory, exchange, max(compute, memory) + exchange)


def _global_batch(config: ConfigDict, batches: PyTree) -> int | None:
    if "batch_size" in config:
        return config.batch_size
    return next((x.shape[0] for x in jax.tree.leaves(batches) if x.shape), None)


def _gib(count: float) -> str:
    return f"{count / GIB:.2f} GiB"
