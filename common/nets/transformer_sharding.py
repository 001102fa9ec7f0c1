"""Where the parameters of transformers lie on a mesh, and with them those of their optimizers."""

from jax.sharding import PartitionSpec

from common.sharding import Rules, fsdp

BLOCK = r"/layer\d+/"


def transformer_rules(
    *, tensor: str | None = None, data: str | None = "data", min_size: int = 65_536
) -> Rules:
    """Returns rules for `ViT`, `Mixer`, `TextEncoder` and towers of them.

    Source: Shoeybi et al. (2019), Sec. 3, for axis `tensor`: devices have their own heads and their
    own neurons of every MLP, and a block needs two sums over devices. Rajbhandari et al. (2020),
    stage 3, for axis `data`: arrays are split over the devices that split the batch.

    Args:
        tensor: Axis of the mesh over which heads and neurons are split, both multiples of its size;
            None: they are not.
        data: Axis over which large arrays are split besides; None: they are replicated.
        min_size: Entries from which an array is large.
    """
    rest = [] if data is None else [("params|opt_state", fsdp(data, min_size=min_size))]
    if tensor is None:
        return rest
    read = BLOCK + "attention/(query|key|value)/"
    return [
        (read + "kernel", PartitionSpec(data, tensor, None)),  # [hidden, heads, head_dim]
        (read + "bias", PartitionSpec(tensor, None)),
        (BLOCK + "attention/out/kernel", PartitionSpec(tensor, None, data)),
        (BLOCK + "mlp_in/kernel", PartitionSpec(data, tensor)),
        (BLOCK + "mlp_in/bias", PartitionSpec(tensor)),
        (BLOCK + "mlp_out/kernel", PartitionSpec(tensor, data)),
        *rest,
    ]
