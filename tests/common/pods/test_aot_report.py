"""The compile report as text and as JSON."""

import json
from typing import Any

from common.pods.aot_report import CompileReport, Memory, ProgramReport, Roofline, render, to_json
from common.pods.hlo import Collectives


def example(**changes: Any) -> CompileReport:
    program = ProgramReport(
        name="step",
        memory=Memory(3 * 2**30, 2 * 2**30, 2**30, 512, 4 * 2**30 + 512),
        flops=2.0e9,
        bytes_accessed=3 * 2**20,
        collectives={"all-reduce": Collectives(2, 5 * 2**10, 9.0)},
        unknown_loops=1,
        roofline=Roofline(1e-3, 2e-3, 4e-6, 2.004e-3),
        compile_seconds=1.25,
    )
    report = CompileReport(
        "a.b:c",
        "v5e:2x2",
        "TPU v5 lite",
        4,
        4,
        {"data": 4},
        1234,
        64,
        16 * 2**30,
        False,
        (program,),
    )
    return report._replace(**changes)


def test_the_text_is_aligned_and_the_json_holds_the_same_numbers() -> None:
    lines = render(example()).splitlines()
    starts = {len(line) - len(line[22:].lstrip()) for line in lines if line}
    assert starts == {22}
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "memory per chip 4.00 GiB of 16.00 GiB usable (25.0%)" in text
    assert "all-reduce 2 x, together 5.00 KiB" in text
    assert "FLOPs per chip 2e+09 (8e+09 in all)" in text
    assert "estimated time 2 ms, from peak rates; nothing was measured" in text
    assert "= max(FLOPs 1 ms, traffic 2 ms) + collectives 4 us" in text
    assert "1 of unknown length" in text
    again = json.loads(to_json(example()))
    assert again["programs"][0]["collectives"]["all-reduce"] == {
        "count": 2,
        "bytes": 5120,
        "sent": 9.0,
    }
    assert again["mesh"] == {"data": 4} and again["programs"][0]["memory"]["total"] == 2**32 + 512


def test_two_devices_a_chip_are_told_apart() -> None:
    text = render(example(topology="tpu7x:2x2x1", num_devices=8, num_params=None))
    assert "tpu7x:2x2x1: 4 chips = 8 x" in text and "memory per device" in text
