"""The processor as far as results depend on it: its model, and the instructions XLA compiles for.

XLA:CPU vectorizes and fuses for the instructions at hand, so another processor, or
`XLA_FLAGS=--xla_cpu_max_isa=...`, gives the same program other last bits.
"""

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

# Names that --xla_cpu_max_isa takes, each with the flags of /proc/cpuinfo it needs besides those
# before it.
_X86 = (
    ("SSE4_2", ("sse4_2",)),
    ("AVX", ("avx",)),
    ("AVX2", ("avx2", "fma")),
    ("AVX512", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
    ("AVX512_VNNI", ("avx512_vnni",)),
    ("AVX512_BF16", ("avx512_bf16",)),
    ("AMX", ("amx_tile", "amx_int8", "amx_bf16")),
    ("AMX_FP16", ("amx_fp16",)),
)
_ARM = (("NEON", ("asimd",)), ("SVE", ("sve",)), ("SVE2", ("sve2",)))


def cpu() -> str:
    """Returns this machine's processor in one line, see `describe`."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    return describe(text, os.environ.get("XLA_FLAGS", "")) or platform.processor()


def describe(cpuinfo: str, xla_flags: str) -> str:
    """Returns name, family, model, stepping and instructions: "Xeon, GenuineIntel 6/85/7, AVX512".

    Args:
        cpuinfo: The text of /proc/cpuinfo.
        xla_flags: A limit of the instructions in it is named too: "AVX512 limited to AVX2".
    """
    facts = _first_processor(cpuinfo)
    x86 = ("cpu family", "model", "stepping")
    arm = ("CPU architecture", "CPU variant", "CPU part", "CPU revision")
    numbers = "/".join(facts[name] for name in (*x86, *arm) if name in facts)
    vendor = facts.get("vendor_id") or facts.get("CPU implementer", "")
    parts = [facts.get("model name", ""), f"{vendor} {numbers}".strip(), _isa(facts, xla_flags)]
    return ", ".join(part for part in parts if part)


def _isa(facts: Mapping[str, str], xla_flags: str) -> str:
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    found = ""
    for levels in (_X86, _ARM):
        for name, needed in levels:
            if not flags.issuperset(needed):
                break
            found = name
    limits = re.findall(r"--xla_cpu_max_isa=(\w+)", xla_flags)
    return f"{found} limited to {limits[-1].upper()}".strip() if limits else found


def _first_processor(cpuinfo: str) -> dict[str, str]:
    facts: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip():
            facts.setdefault(name.strip(), value.strip())
    return facts
