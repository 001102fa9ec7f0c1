"""Programs for GPUs that are not here, against hand counts; needs JAX's plugin, but no GPU."""

import importlib.util
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from common.pods import gpus
from tests.common.pods.test_aot import MATMUL_FLOPS, ROWS, STATE_BYTES, D, H, reports


@pytest.mark.skipif(
    importlib.util.find_spec("jax_plugins") is None
    or importlib.util.find_spec("jax_plugins.xla_cuda12") is None,
    reason="needs jax-cuda12-plugin",
)
def test_gpus_have_the_flops_of_cpus_and_a_limit_of_memory() -> None:
    found, stderr = reports(
        """
report("data", two_matmuls(), batch_size=4096)
report("both", two_matmuls(rules=(("state/params", sharding.fsdp("fsdp")),)),
       mesh={"data": 2, "fsdp": 4})
report("arguments", two_matmuls(d=2**16, h=2**17))
def huge(params, data, batch, key):
    return jnp.mean(jnp.tanh(batch["x"] @ params["a"]) @ params["b"]) ** 2, {}
report("temporaries", two_matmuls(rows=2**18, h=2**19, loss=huge))
""",
        "h100:8",
    )
    assert stderr == ""
    step = found["data"]["programs"][0]
    assert step["flops"] == pytest.approx(5 * MATMUL_FLOPS / 8, rel=0.02)
    assert step["memory"]["arguments"] == pytest.approx(STATE_BYTES + 4 * ROWS * D // 8, rel=0.01)
    assert step["collectives"]["all-reduce"]["bytes"] == STATE_BYTES + 4
    # Both matrices, the batch, and the hidden layer at least once.
    least = STATE_BYTES + 4 * ROWS * (D + H) // 8
    assert least < step["bytes_accessed"] < 20 * least
    assert found["both"]["programs"][0]["memory"]["aliased"] == STATE_BYTES // 4
    for name in ("arguments", "temporaries"):
        assert found[name]["code"] == 3 and "h100:8" in found[name]["message"]


def test_a_product_that_triton_has_no_kernel_for_is_left_to_cublas() -> None:
    asked = []

    def one(text: str, *, compiler_options: dict[str, Any]) -> dict[str, Any]:
        asked.append(compiler_options)
        if compiler_options.get("xla_gpu_enable_triton_gemm", True):
            raise jax.errors.JaxRuntimeError(text)
        return compiler_options

    lowered = lambda text: SimpleNamespace(compile=lambda **options: one(text, **options))
    done = gpus.compiled(lowered("INTERNAL: No supported config found for HLO"))
    assert [*asked[0].items(), ("xla_gpu_enable_triton_gemm", False)] == [*asked[1].items()]
    assert done is asked[1]
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        gpus.compiled(lowered("RESOURCE_EXHAUSTED: out of memory"))
    assert len(asked) == 3
