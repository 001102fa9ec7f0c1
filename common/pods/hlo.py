"""The text of an optimized XLA program: its computations, how often they run, its collectives.

XLA does not list the collectives of a program and does not say how often loops run; both can be
read off the text. Nothing here needs JAX.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

# Between TPU slices each chip exchanges its part of an array with its like in the other slices, by
# way of its host: a pair of send and recv that says what it is.
BETWEEN_SLICES = " between slices"
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_SLICES = re.compile(r'_xla_megascale_target="\{([\d,]+)\}')

_NAME = r"[\w.\-]+"
_COMPUTATION = re.compile(rf"^(ENTRY )?%?({_NAME}) \(.*\{{$")
_INSTRUCTION = re.compile(rf"^\s+(ROOT )?%?({_NAME}) = (.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|token|[sufc]\d+(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_GROUP_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")


class Instruction(NamedTuple):
    """One line: name = shape opcode(operands), attributes; `rest` is all after the opcode."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool


Computations = Mapping[str, Sequence[Instruction]]


class Module(NamedTuple):
    """A parsed program.

    Attributes:
        computations: Name -> instructions.
        runs: How often each computation runs in one run of the program.
        fused: Computations that are the inside of one fused operation.
        unknown_loops: Loops whose number of iterations the text does not show; taken as 1.
        num_partitions: Devices that the program runs on.
    """

    computations: Computations
    runs: Mapping[str, int]
    fused: frozenset[str]
    unknown_loops: int
    num_partitions: int


class Collectives(NamedTuple):
    """All collectives of one kind that one run of the program executes, on each device.

    Attributes:
        count: Operations; one in a loop of n iterations counts n times.
        bytes: Sizes of the whole arrays: what is reduced, or the gathered result. Between slices
            the part of a chip.
        sent: Bytes that a device sends if rings are used.
    """

    count: int
    bytes: int
    sent: float


def read_module(text: str) -> Module:
    """Returns the parsed text of an optimized program, `compiled.as_text()`."""
    computations, entry = _parse(text)
    runs, unknown_loops = _count_runs(computations, entry)
    lines = (line for body in computations.values() for line in body)
    fused = {name for line in lines if line.opcode == "fusion" for name in called(line)}
    partitions = re.search(r"num_partitions=(\d+)", text)
    return Module(
        computations, runs, frozenset(fused), unknown_loops, int(partitions[1]) if partitions else 1
    )


def collectives(module: Module) -> dict[str, Collectives]:
    """Returns {kind: totals} of the collectives, in the order of `KINDS`."""
    totals: dict[str, Collectives] = {}
    seen: set[tuple[str, str]] = set()
    for name, body in module.computations.items():
        runs = module.runs[name]
        for line in body if runs else ():
            kind = line.opcode.removesuffix("-start")
            if kind == "recv" and (transfer := _TRANSFER.search(line.rest)):
                _add(totals, *_between_slices(line, transfer[1]), runs)
                continue
            if kind not in KINDS:
                continue
            channel = re.search(r"channel_id=(\d+)", line.rest)
            if name in module.fused and channel:
                # An asynchronous collective shows up in every fusion it overlaps with.
                if (kind, channel[1]) in seen:
                    continue
                seen.add((kind, channel[1]))
            group = group_size(line.rest, module.num_partitions)
            if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"  # TPU: an all-reduce of which each device keeps a slice
                size = array_bytes(line.shape)
            else:
                size = _payload(kind, line, group)
            _add(totals, kind, size, size * _sent_share(kind, group), runs)
    across = sorted(kind for kind in totals if kind.endswith(BETWEEN_SLICES))
    return {kind: totals[kind] for kind in (*KINDS, *across) if kind in totals}


def _add(totals: dict[str, Collectives], kind: str, size: int, sent: float, runs: int) -> None:
    old = totals.get(kind, Collectives(0, 0, 0.0))
    totals[kind] = Collectives(old.count + runs, old.bytes + runs * size, old.sent + runs * sent)


def _between_slices(line: Instruction, transfer: str) -> tuple[str, int, float]:
    """Returns kind, bytes and bytes sent of what a chip exchanges with other slices."""
    kind = transfer.lower().replace("_", "-")
    slices = _SLICES.search(line.rest)
    size = array_bytes(_members(line.shape)[0])  # (what comes, context, token)
    share = _sent_share(kind, len(slices[1].split(",")) if slices else 2)
    return kind + BETWEEN_SLICES, size, size * share


def array_bytes(shape: str) -> int:
    """Returns the bytes of all arrays in a shape such as "(f32[2,3]{1,0}, bf16[])"."""
    return sum(math.ceil(math.prod(sides) * bits / 8) for bits, sides in _arrays(shape))


def array_sides(shape: str) -> list[tuple[int, ...]]:
    """Returns the sides of every array in a shape."""
    return [sides for _, sides in _arrays(shape)]


def group_size(text: str, num_partitions: int) -> int:
    """Returns how many devices take part in a collective, from its `replica_groups=...`."""
    if explicit := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(explicit[1].split(","))
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", text):
        return int(iota[2])
    if mesh := _GROUP_MESH.search(text):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])  # 'a':(1)2 is a part of size 2
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    return num_partitions


def called(line: Instruction) -> dict[str, str]:
    """Returns {computation: attribute} of what an instruction runs, not of how it reduces."""
    wanted = "calls|body|condition|true_computation|false_computation|branch_computations"
    if line.opcode in ("call", "call-start"):
        wanted += "|to_apply"
    if line.opcode in ("async-update", "async-done"):
        return {}  # their computation is that of async-start
    found = re.findall(rf"\b({wanted})=(\{{[^}}]*\}}|%?{_NAME})", line.rest)
    return {name: key for key, names in found for name in re.findall(rf"({_NAME})", names)}


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    computations: dict[str, list[Instruction]] = {}
    current, entry = "", ""
    for line in text.splitlines():
        opens = _COMPUTATION.match(line)
        if opens:
            current = opens[2]
            computations[current] = []
            entry = current if opens[1] else entry
        elif current and line.startswith("}"):
            current = ""
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(_instruction(found[2], found[3], bool(found[1])))
    return computations, entry


def _instruction(name: str, rest: str, is_root: bool) -> Instruction:
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode = rest.partition("(")[0]
    rest = rest[len(opcode) :]
    operands = re.findall(rf"%({_NAME})", rest[: _closing(rest, 0)])
    return Instruction(name, shape, opcode, tuple(operands), rest, is_root)


def _closing(text: str, start: int) -> int:
    """Returns the position after the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    return len(text)


def _count_runs(computations: Computations, entry: str) -> tuple[dict[str, int], int]:
    """Returns how often each computation runs, and the number of loops of unknown length."""
    runs: dict[str, int] = dict.fromkeys(computations, 0)
    unknown_loops = 0

    def visit(name: str, times: int) -> None:
        nonlocal unknown_loops
        runs[name] += times
        for line in computations[name]:
            inner = times
            callees = called(line)
            if line.opcode == "while":
                trips = _trip_count(line, callees, computations)
                unknown_loops += trips is None
                inner *= 1 if trips is None else trips
            for callee in callees:
                if callee in computations:
                    visit(callee, inner)

    if entry:
        visit(entry, 1)
    return runs, unknown_loops


def _trip_count(
    line: Instruction, callees: Mapping[str, str], computations: Computations
) -> int | None:
    """Returns the iterations of a while loop; TPU text shows only the bound of its counter."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line.rest):
        return int(known[1])
    condition = next((name for name, key in callees.items() if key == "condition"), "")
    lines = {item.name: item for item in computations.get(condition, ())}
    root = next((item for item in lines.values() if item.is_root), None)
    if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
        return None
    # JAX counts from 0 in steps of 1: `while counter < bound`.
    bound = lines.get(root.operands[-1])
    number = re.match(r"\((\d+)\)", bound.rest) if bound else None
    return int(number[1]) if number else None


def _payload(kind: str, line: Instruction, group: int) -> int:
    if line.opcode.endswith("-start") and kind != "all-reduce":
        # (operands, results, contexts...): only the results count.
        size = array_bytes(_members(line.shape)[1])
    else:
        size = array_bytes(line.shape)
    return size * group if kind == "reduce-scatter" else size


def _members(shape: str) -> list[str]:
    """Splits "(a, (b, c), d)" into its top-level members."""
    members, depth, start = [], 0, 1
    for position, letter in enumerate(shape[1:-1], 1):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            members.append(shape[start:position])
            start = position + 1
    return [*members, shape[start:-1]]


def _sent_share(kind: str, group: int) -> float:
    """Returns bytes a device sends over bytes of the array, for a ring of `group` devices."""
    if kind == "all-reduce":
        return 2 * (group - 1) / group
    if kind in ("all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"):
        return (group - 1) / group
    return 1.0


def _arrays(shape: str) -> list[tuple[int, tuple[int, ...]]]:
    return [
        (_bits(dtype), tuple(int(side) for side in sides.split(",") if side))
        for dtype, sides in _ARRAY.findall(shape)
    ]


def _bits(dtype: str) -> int:
    if dtype in ("pred", "token"):
        return 8 if dtype == "pred" else 0
    found = re.match(r"[a-z]+(\d+)", dtype)
    assert found is not None
    return int(found[1])
