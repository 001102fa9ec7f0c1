"""The ResNets for CIFAR-10 whose weights akamaster/pytorch_resnet_cifar10 publishes, in JAX.

Names and layouts are PyTorch's. Shortcuts between stages have no parameters: every second pixel,
and zeros on both sides of the channels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from nfn.splits import AxisParts, Tensor

Weights = dict[str, jax.Array]
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def tensor_list(widths: tuple[int, ...], blocks: int, classes: int) -> list[Tensor]:
    """Returns all tensors with their groups, by hand."""
    streams = stages(widths)
    last = f"layer{len(widths)}"
    tensors = [*layer("conv1", "bn1", ("input", 3), streams[0], widths[0])]
    for stage, width in enumerate(widths):
        for i in range(blocks):
            name = f"layer{stage + 1}.{i}"
            before = streams[max(stage - (i == 0), 0)]
            read = widths[max(stage - (i == 0), 0)]
            tensors += layer(f"{name}.conv1", f"{name}.bn1", (before, read), name, width)
            tensors += layer(f"{name}.conv2", f"{name}.bn2", (name, width), streams[stage], width)
    assert tensors[-1].path.startswith(last)
    linear = Tensor("linear.weight", (classes, widths[-1]), ("output", streams[-1]))
    return [*tensors, linear, Tensor("linear.bias", (classes,), ("output",))]


def stages(widths: tuple[int, ...]) -> list[AxisParts]:
    """Returns the parts of every stage's channels: the stage before in the middle of new ones."""
    parts = (("stage 1", widths[0]),)
    found: list[AxisParts] = [parts]
    for stage, (before, width) in enumerate(zip(widths, widths[1:], strict=False), start=2):
        new = (f"stage {stage}", (width - before) // 2)
        parts = (new, *parts, new)
        found.append(parts)
    return found


def layer(
    conv: str, norm: str, read: tuple[AxisParts, int], written: AxisParts, width: int
) -> list[Tensor]:
    kernel = Tensor(f"{conv}.weight", (width, read[1], 3, 3), (written, read[0], None, None))
    return [kernel, *(Tensor(f"{norm}.{name}", (width,), (written,)) for name in STATISTICS)]


def random_weights(tensors: list[Tensor], seed: int = 0) -> Weights:
    """Returns weights of about the size that keeps activations of size 1."""
    generator = np.random.default_rng(seed)
    weights = {}
    for tensor in tensors:
        scale = np.prod(tensor.shape[1:]) ** -0.5
        values = generator.normal(size=tensor.shape) * scale
        is_positive = tensor.path.endswith(("running_var", "bn1.weight", "bn2.weight"))
        values = np.abs(values) + 0.5 if is_positive else values
        weights[tensor.path] = jnp.asarray(values.astype(np.float32))
    return weights


def resnet(weights: Weights, images: jax.Array) -> jax.Array:
    """Returns logits [batch, classes] of normalized images [batch, h, w, 3]."""

    def conv(x: jax.Array, name: str, stride: int = 1) -> jax.Array:
        numbers = ("NHWC", "OIHW", "NHWC")
        return jax.lax.conv_general_dilated(
            x, weights[f"{name}.weight"], (stride,) * 2, ((1, 1),) * 2, dimension_numbers=numbers
        )

    def norm(x: jax.Array, name: str) -> jax.Array:
        scale, shift, mean, variance = (
            weights[f"{name}.{part}"][None, None, None] for part in STATISTICS
        )
        return (x - mean) * scale / jnp.sqrt(variance + 1e-5) + shift

    x = jax.nn.relu(norm(conv(images, "conv1"), "bn1"))
    names = [key.removesuffix(".conv1.weight") for key in weights if key.endswith(".conv1.weight")]
    for name in sorted(names, key=lambda name: [int(n) for n in name[5:].split(".")]):
        width = len(weights[f"{name}.bn2.weight"])
        extra = width - x.shape[-1]
        y = jax.nn.relu(norm(conv(x, f"{name}.conv1", 2 if extra else 1), f"{name}.bn1"))
        y = norm(conv(y, f"{name}.conv2"), f"{name}.bn2")
        if extra:
            x = jnp.pad(x[:, ::2, ::2], ((0, 0),) * 3 + ((extra // 2,) * 2,))
        x = jax.nn.relu(x + y)
    x = jnp.mean(x, axis=(1, 2))
    return x @ weights["linear.weight"].T + weights["linear.bias"][None]
