"""What a result says of its processor."""

from common.provenance import machine

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse4_2 avx fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16

processor\t: 1
model name\t: another
"""
ARM = "CPU implementer\t: 0x41\nFeatures\t: fp asimd sve\nCPU variant\t: 0x1\nCPU part\t: 0xd40\n"


def test_a_processor_is_named_with_the_instructions_that_are_compiled_for() -> None:
    # Without avx512_vnni XLA does not take it for one of the later kinds.
    assert machine.describe(X86, "") == "AMD EPYC, AuthenticAMD 25/17/1, AVX512"
    vnni = X86.replace("avx512vl", "avx512vl avx512_vnni")
    assert machine.describe(vnni, "").endswith("AVX512_BF16")
    limited = "--xla_a=1 --xla_cpu_max_isa=avx2"
    assert machine.describe(X86, limited).endswith(", AVX512 limited to AVX2")
    assert machine.describe(ARM, "") == "0x41 0x1/0xd40, SVE"
    assert machine.describe("", "") == ""
