"""The cases of `nft_vs_torch` on our side: every core is a device with its part of the batch."""

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from common.sharding import make_mesh
from nfn import attention, transformer_stack
from nfn.features import Features
from nfn.transformer_stack import TransformerSpec
from nfn.weights import mlp_space
from tests.benchmarks.peers.jax_cases import random_features, serve_jax
from tests.benchmarks.peers.timed_cases import Case

# Widths, batch, networks at a time on each device, sizes of the block.
SIZES = {
    "64": ((2, 32, 32, 1), 64, 2, TransformerSpec(channels=64, num_blocks=1, num_heads=8)),
    "32": (
        (2, 16, 16, 1),
        32,
        0,
        TransformerSpec(channels=32, num_blocks=1, num_heads=4, ff_ratio=2),
    ),
}


def case(kind: str, size: str, *, backward: bool) -> Case:
    """One layer or block on a batch of SIRENs; the gradient is that of the parameters."""
    widths, batch, networks, spec = SIZES[size]
    space, key = mlp_space(widths), jax.random.key(0)
    x = random_features(space, spec.channels, batch)
    if kind == "attention":
        params: Any = attention.init_attention(key, space=space, c=spec.channels)
        layer: Any = partial(attention.attention, space=space, num_heads=spec.num_heads)
    else:
        params = transformer_stack.init_block(key, space=space, spec=spec)
        layer = partial(transformer_stack.block, space=space, spec=spec)

    def forward(params: Any, x: Features) -> Features:
        return attention.by_networks(layer, params, x, networks * mesh.size)

    def loss(params: Any, x: Features) -> jax.Array:
        return jnp.sum(jnp.stack([jnp.mean(leaf**2) for leaf in forward(params, x).values()]))

    mesh = make_mesh({"data": -1})
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    compiled = jax.jit(jax.value_and_grad(loss) if backward else forward)

    def run() -> Any:
        with jax.set_mesh(mesh):  # as the loop does
            return jax.block_until_ready(compiled(params, x))

    return Case(run, program=(compiled, (params, x)))


def main() -> None:
    threads = len(os.sched_getaffinity(0))
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={threads}"
    cases = {
        f"{kind} {size} {name}": partial(case, kind, size, backward=name == "both")
        for kind in ("attention", "block")
        for size in SIZES
        for name in ("forward", "both")
    }
    serve_jax(cases)


if __name__ == "__main__":
    main()
