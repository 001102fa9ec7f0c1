"""What a compiled experiment costs: the report of `common.pods.aot` and its forms; needs no JAX."""

import json
from typing import Any, NamedTuple

from common.pods import hlo
from common.pods.chips import GIB
from common.progress import duration


class Memory(NamedTuple):
    """Bytes a device holds while a program runs.

    Attributes:
        arguments: State, data, batch and keys.
        outputs: All results, those that reuse the memory of arguments included.
        aliased: Outputs that reuse the memory of donated arguments.
        temporaries: Intermediate values.
        total: arguments + outputs - aliased + temporaries, which the compiler compares with what
            is available. (`peak_memory_in_bytes` of JAX is something else: on TPUs it includes
            the fast memory of the core, on CPUs it leaves out temporaries.)
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    total: int


class Roofline(NamedTuple):
    """Estimated seconds of one run of a program: bounds by peak rates, nothing was measured.

    Attributes:
        compute: FLOPs over the bfloat16 peak.
        memory: Bytes accessed over the memory bandwidth. XLA's count of bytes includes what stays
            in the fast memory of a core, so this is high for small programs.
        collectives: Bytes sent in rings over the bandwidth of the links; nothing overlaps.
        step: max(compute, memory) + collectives.
    """

    compute: float
    memory: float
    collectives: float
    step: float


class ProgramReport(NamedTuple):
    """What one compiled program costs on each device.

    Attributes:
        name: "step", "evaluate", "final" or that of a measure.
        memory: Bytes.
        flops: Floating-point operations, loops counted as often as they run.
        bytes_accessed: Bytes read and written, likewise.
        collectives: Kind -> count, bytes and bytes sent.
        unknown_loops: Loops whose length is known only at run time; counted as one iteration.
        roofline: None if the peaks of the device are not known.
        compile_seconds: Lowering and compiling.
        calls: How often a result takes it, if it is a measure.
    """

    name: str
    memory: Memory
    flops: float
    bytes_accessed: float
    collectives: dict[str, hlo.Collectives]
    unknown_loops: int
    roofline: Roofline | None
    compile_seconds: float
    calls: int = 1


class CompileReport(NamedTuple):
    """What an experiment costs on a topology.

    Attributes:
        experiment: `config.experiment`.
        topology: Its name, as given.
        device: What JAX calls a device of it.
        num_chips: Chips of the slice.
        num_devices: Devices as JAX counts them, two a chip for some generations.
        mesh: Axis sizes.
        num_params: Elements of `state.params`; None if the state has no such field.
        global_batch: Rows of one batch over all devices; None if batches are empty.
        hbm_available: Usable bytes of a device, by the compiler's limit; None for simulated ones.
        quick: Whether the compiler was told to optimize less.
        programs: The step, and evaluation and measures if asked for.
    """

    experiment: str
    topology: str
    device: str
    num_chips: int
    num_devices: int
    mesh: dict[str, int]
    num_params: int | None
    global_batch: int | None
    hbm_available: int | None
    quick: bool
    programs: tuple[ProgramReport, ...]


def to_json(report: CompileReport) -> str:
    """Returns the report as JSON; bytes, seconds and FLOPs as plain numbers."""

    def plain(value: Any) -> Any:
        if hasattr(value, "_asdict"):
            value = value._asdict()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, tuple | list) else value

    return json.dumps(plain(report), indent=2)


def render(report: CompileReport) -> str:
    """Returns the report as aligned text."""
    each = "device" if report.num_devices != report.num_chips else "chip"
    chips = f"{report.num_chips} chips = " if each == "device" else ""
    mesh = " x ".join(f"{name} {size}" for name, size in report.mesh.items())
    rows = [
        ("experiment", report.experiment),
        ("topology", f"{report.topology}: {chips}{report.num_devices} x {report.device}"),
        ("mesh", mesh),
        ("parameters", "-" if report.num_params is None else f"{report.num_params:,}"),
        ("global batch", "-" if report.global_batch is None else f"{report.global_batch:,}"),
    ]
    for item in report.programs:
        rows += [("", ""), *_program_rows(item, report, each)]
    width = max(len(label) for label, _ in rows) + 2
    return "\n".join(f"{label:<{width}}{value}".rstrip() for label, value in rows)


def _program_rows(item: ProgramReport, report: CompileReport, each: str) -> list[tuple[str, str]]:
    memory, available = item.memory, report.hbm_available
    total = _size(memory.total)
    if available is not None:
        total += f" of {_size(available)} usable ({memory.total / available:.1%})"
    quick = " with little optimization" if report.quick else ""
    rows = [
        (item.name, f"compiled in {item.compile_seconds:.1f} s{quick}"),
        (f"  memory per {each}", total),
        ("    arguments", _size(memory.arguments)),
        ("    outputs", f"{_size(memory.outputs)}, of which in place {_size(memory.aliased)}"),
        ("    temporaries", _size(memory.temporaries)),
        (f"  FLOPs per {each}", f"{item.flops:.3g} ({item.flops * report.num_devices:.3g} in all)"),
        (f"  traffic per {each}", _size(item.bytes_accessed)),
    ]
    for kind, totals in item.collectives.items():
        rows.append((f"  {kind}", f"{totals.count} x, together {_size(totals.bytes)}"))
    if not item.collectives:
        rows.append(("  collectives", "none"))
    if item.unknown_loops:
        rows.append(("  loops", f"{item.unknown_loops} of unknown length, counted as 1 iteration"))
    if item.roofline is not None:
        compute, traffic, exchange, step = map(_seconds, item.roofline)
        rows += [
            ("  estimated time", f"{step}, from peak rates; nothing was measured"),
            ("", f"= max(FLOPs {compute}, traffic {traffic}) + collectives {exchange}"),
        ]
        if item.calls > 1:
            together = duration(item.calls * item.roofline.step)
            rows.append(("  calls", f"{item.calls:,}, together {together}"))
    return rows


def _size(count: float) -> str:
    for unit, size in (("TiB", 2**40), ("GiB", GIB), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"
