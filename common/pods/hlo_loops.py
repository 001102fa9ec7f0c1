"""How much more an XLA program does than XLA's cost analysis says, because its loops repeat.

The analysis counts the body of a loop once, whatever the number of iterations.
"""

import math
import re
from collections.abc import Callable, Sequence

from common.pods.hlo import (
    KINDS,
    Computations,
    Instruction,
    Module,
    array_bytes,
    array_sides,
    called,
)

# Neither arithmetic nor memory traffic: names for values, control flow, asynchronous halves.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"),
    *("call", "async-start", "async-update", "async-done", "after-all", "partition-id"),
    *("send", "recv"),
}
# Traffic without arithmetic. The arithmetic of a fusion is that of the computation it calls.
_MOVES = {
    *(
        "fusion",
        "copy",
        "copy-done",
        "send-done",
        "recv-done",
        "broadcast",
        "convert",
        "reshape",
        "transpose",
        "slice",
    ),
    *("dynamic-slice", "dynamic-update-slice", "pad", "concatenate", "gather", "iota", "reverse"),
    *("custom-call", *KINDS),
}


def loop_factors(module: Module) -> tuple[float, float]:
    """Returns arithmetic and memory traffic, each over the same with loop bodies counted once.

    Multiply the numbers of XLA's cost analysis by them; both are 1 for a program without loops.
    """
    computations = module.computations
    flops = _factor(module, lambda name, line: _flops(line, computations[name]))
    traffic = _factor(
        module,
        lambda name, line: (
            0 if name in module.fused else _traffic(line, computations[name], computations)
        ),
    )
    return flops, traffic


def traffic(module: Module) -> float:
    """Returns bytes read and written in one run of a program, for want of XLA's own count."""
    return float(
        sum(
            module.runs[name] * _traffic(line, body, module.computations)
            for name, body in module.computations.items()
            if module.runs[name] and name not in module.fused
            for line in body
        )
    )


def _factor(module: Module, amount: Callable[[str, Instruction], float]) -> float:
    once = total = 0.0
    for name, body in module.computations.items():
        if module.runs[name]:
            size = sum(amount(name, line) for line in body)
            once, total = once + size, total + size * module.runs[name]
    return total / once if once else 1.0


def _flops(line: Instruction, body: Sequence[Instruction]) -> float:
    if line.opcode in _FREE or line.opcode in _MOVES:
        return 0.0
    elements = sum(map(math.prod, array_sides(line.shape)))
    if line.opcode not in ("dot", "convolution"):
        return elements
    shapes = {item.name: item.shape for item in body}
    sides = [array_sides(shapes[name])[0] for name in line.operands[:2]]
    if line.opcode == "dot":
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)
        axes = [int(axis) for axis in found[1].split(",") if axis] if found else []
        return 2.0 * elements * math.prod(sides[0][axis] for axis in axes)
    labels = re.search(r"dim_labels=\w+_(\w+)->", line.rest)
    return 2.0 * elements * math.prod(sides[1]) / sides[1][labels[1].index("o")] if labels else 0.0


def _traffic(line: Instruction, body: Sequence[Instruction], computations: Computations) -> int:
    """Returns bytes read and written; of an array read or updated by slices, only the slices."""
    if line.opcode in _FREE or line.opcode.endswith("-start"):
        return 0
    shapes = {item.name: item.shape for item in body}
    if line.opcode == "dynamic-slice" or line.opcode.endswith("-done"):
        return 2 * array_bytes(line.shape)
    if line.opcode == "dynamic-update-slice":
        return 2 * array_bytes(shapes[line.operands[1]])
    size = 0
    for number, operand in enumerate(line.operands):
        size += _read(line, number, array_bytes(shapes.get(operand, "")), computations)
    inside = _inside(line, computations)
    inner = {item.name: item.shape for item in inside}
    updates = [inner[x.operands[1]] for x in inside if x.opcode == "dynamic-update-slice"]
    return size + sum(map(array_bytes, updates or [line.shape]))


def _read(line: Instruction, number: int, whole: int, computations: Computations) -> int:
    """Returns the bytes that `line` reads of its operand `number`, which has `whole` bytes."""
    if line.opcode == "dynamic-slice" and number == 0:
        return array_bytes(line.shape)
    if line.opcode == "dynamic-update-slice" and number == 0:
        return 0
    inside = _inside(line, computations)
    if not inside:
        return whole

    def uses(name: str) -> int:
        size = 0
        for item in inside:
            for position, operand in enumerate(item.operands):
                if operand == name and item.opcode == "bitcast":
                    size += uses(item.name)
                elif operand == name:
                    size += _read(item, position, whole, computations)
        return size

    is_parameter = re.compile(rf"\({number}\)").match
    names = [x.name for x in inside if x.opcode == "parameter" and is_parameter(x.rest)]
    return min(whole, sum(map(uses, names)))


def _inside(line: Instruction, computations: Computations) -> Sequence[Instruction]:
    names = called(line) if line.opcode == "fusion" else ()
    return [item for name in names for item in computations.get(name, ())]
