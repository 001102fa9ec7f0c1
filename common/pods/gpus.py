"""GPUs that are not here, described for XLA's compiler, and what their programs cost.

The compiler needs no GPU and no library of NVIDIA, only JAX's plugin. It chooses kernels without
trying them, counts nothing, and never says that memory is too small: FLOPs are those of the same
step for as many CPUs, traffic is read off the program (`hlo_loops.traffic`), and memory is compared
in `aot`.
"""

from typing import Any

import jax

# What XLA asks of a device, as its driver says it: an H100 of 80 GB (SXM). In the form of XLA's
# GpuTargetConfigProto; cuDNN and CUDA are versions that JAX's plugin can be used with.
TARGETS = {
    "h100": """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
}
# There is nothing to try kernels on.
_OPTIONS: dict[str, Any] = {"xla_gpu_autotune_level": "0"}
# Of some products XLA's Triton has a kernel only where it may try several; cuBLAS has one.
_WITHOUT_TRITON = {**_OPTIONS, "xla_gpu_enable_triton_gemm": False}
_NO_KERNEL = "No supported config found"


def topology_arguments(generation: str, count: int) -> dict[str, str]:
    """Returns what `jax.experimental.topologies.get_topology_desc` takes for GPUs of a machine."""
    return dict(
        platform="cuda", target_config=TARGETS[generation], topology=f"1x1x{count}"
    )  # slices, hosts, GPUs of a host


def compiled(lowered: Any) -> Any:
    """Compiles a `jax.stages.Lowered` without trying kernels."""
    try:
        return lowered.compile(compiler_options=_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if _NO_KERNEL not in str(error):
            raise
        return lowered.compile(compiler_options=_WITHOUT_TRITON)
