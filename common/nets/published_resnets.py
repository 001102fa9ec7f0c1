"""ResNets whose weights others have published in PyTorch's names, read from a file as ours.

    module, params, model_state = read_resnet("resnet20.npz")
    network = from_stateful_linen(module, images)
    logits, _ = network.apply(params, model_state, normalized(images))

ResNet-20, 32, 44 and 56 for CIFAR-10 are those of github.com/akamaster/pytorch_resnet_cifar10. Its
files are pickles; with PyTorch, once: `numpy.savez("resnet20.npz", **{k: v.numpy() for k, v in
torch.load("resnet20.th", map_location="cpu")["state_dict"].items()})`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from common.checkpoints import renames, weights
from common.checkpoints.snapshot import flatten
from common.errors import DataError, UserError
from common.nets.batch_norm import check_statistics
from common.nets.resnet import STAGES, ResNet, Shortcut
from common.networks import from_stateful_linen

PyTree = Any
# Of pixels / 255, as the published networks were trained: the numbers of ImageNet.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_NORM = {  # of batch normalization: PyTorch's name, ours
    "weight": "{}/scale",
    "bias": "{}/bias",
    "running_mean": "model_state/{}/mean",
    "running_var": "model_state/{}/var",
}
_OIHW_TO_HWIO = (2, 3, 1, 0)
_TOP, _BLOCK = r"(?:module\.)?", r"(?:module\.)?layer(\d)\.(\d+)\."
_PROJECTION = r"(?:shortcut|downsample)"
# PyTorch's names and ours, for `config.init_from_names` too.
PYTORCH_NAMES = (
    (rf"{_TOP}conv1\.weight", "conv/kernel", _OIHW_TO_HWIO),
    *((rf"{_TOP}bn1\.{theirs}", ours.format("norm")) for theirs, ours in _NORM.items()),
    (rf"{_BLOCK}conv(\d)\.weight", r"stage\1_block\2/conv\3/kernel", _OIHW_TO_HWIO),
    *(
        (rf"{_BLOCK}bn(\d)\.{theirs}", ours.format(r"stage\1_block\2/norm\3"))
        for theirs, ours in _NORM.items()
    ),
    (rf"{_BLOCK}{_PROJECTION}\.0\.weight", r"stage\1_block\2/projection/kernel", _OIHW_TO_HWIO),
    *(
        (rf"{_BLOCK}{_PROJECTION}\.1\.{theirs}", ours.format(r"stage\1_block\2/projection_norm"))
        for theirs, ours in _NORM.items()
    ),
    (rf"{_TOP}(?:linear|fc)\.weight", "head/kernel", (1, 0)),
    (rf"{_TOP}(?:linear|fc)\.bias", "head/bias"),
    (r".*\.num_batches_tracked", ""),
)


def read_resnet(
    path: str | Path, *, shortcut: Shortcut | None = None
) -> tuple[ResNet, PyTree, PyTree]:
    """Returns the network in a file `.npz` or `.safetensors`, its parameters and its statistics.

    Args:
        path: A file with PyTorch's names, such as a published one.
        shortcut: As for `from_pytorch`.

    Raises:
        UserError: If there is no such file, or it has another suffix.
        DataError: If it is damaged, or no such network.
    """
    file = weights.load(path)
    try:
        return from_pytorch(file.arrays, shortcut=shortcut)
    except (ValueError, UserError) as error:
        raise DataError(f"{path}: {error}") from error


def from_pytorch(
    arrays: Mapping[str, np.ndarray], *, shortcut: Shortcut | None = None
) -> tuple[ResNet, PyTree, PyTree]:
    """Returns the network that has these arrays, its parameters and its statistics.

    Depth, width and number of classes are read from the arrays.

    Args:
        arrays: By PyTorch's names, in PyTorch's order of axes.
        shortcut: What stands where the shape changes; None for projections if there are weights of
            any, else padding. A network without shortcuts has the same names as one with padding.

    Raises:
        ValueError: Naming every array that is missing, of another shape, too many, or not
            finite, and a running variance that is not positive.
        UserError: If two arrays have the name of one of ours.
    """
    pytorch = renames.parse(PYTORCH_NAMES)
    found = renames.renamed(arrays, pytorch)
    if shortcut is None:
        shortcut = "projection" if any("/projection/" in name for name in found) else "padding"
    places = [re.match(r"(?:model_state/)?stage\d_block(\d+)/", name) for name in found]
    blocks = 1 + max((int(place[1]) for place in places if place), default=0)
    expected = _names(blocks, shortcut == "projection")
    theirs = {renames.new_name(name, pytorch)[0]: name for name in expected}
    _refuse("it lacks", [name for ours, name in theirs.items() if ours not in found])
    _refuse(
        f"no part of a ResNet with shortcut={shortcut!r}:", [n for n in found if n not in theirs]
    )
    module = ResNet(
        2 + 2 * STAGES * blocks,
        width=found["conv/kernel"].shape[-1],
        shortcut=shortcut,
        num_classes=found["head/kernel"].shape[-1],
    )
    state = _state(module, channels=found["conv/kernel"].shape[-2])
    names = {path: name for name, path in weights.names(flatten(state)).items()}
    leaves = {path: np.asarray(found[names[path]], np.float32) for path in flatten(state)}
    wrong = [
        f"{theirs[names[path]]} is {leaves[path].shape}, expected {leaf.shape}"
        for path, leaf in flatten(state).items()
        if leaves[path].shape != leaf.shape
    ]
    _refuse(f"for a {module.depth}-layer ResNet of width {module.width}:", wrong)
    infinite = [path for path, leaf in leaves.items() if not np.isfinite(leaf).all()]
    _refuse("not all finite:", [theirs[names[path]] for path in infinite])
    state = jax.tree.unflatten(jax.tree.structure(state), leaves.values())
    check_statistics(state["model_state"])
    return module, state["params"], state["model_state"]


def normalized(images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """Returns images as the published networks take them: channels of mean 0 and deviation 1."""
    mean, std = (np.asarray(values, np.float32) for values in (MEAN, STD))
    return (images.astype(np.float32) / 255 - mean) / std


def _state(module: ResNet, channels: int) -> dict[str, PyTree]:
    """Returns the shapes of parameters and statistics."""
    example = jax.ShapeDtypeStruct((1, 8, 8, channels), jnp.float32)
    init = from_stateful_linen(module, example).init
    params, model_state = jax.eval_shape(init, jax.random.key(0))
    return {"params": params, "model_state": model_state}


def _names(blocks: int, projections: bool) -> Iterator[str]:
    """Yields PyTorch's names of all arrays."""

    def layer(place: str, conv: str, norm: str) -> Iterator[str]:
        yield f"{place}{conv}.weight"
        yield from (f"{place}{norm}.{name}" for name in _NORM)

    yield from layer("", "conv1", "bn1")
    for stage in range(1, STAGES + 1):
        for block in range(blocks):
            place = f"layer{stage}.{block}."
            yield from layer(place, "conv1", "bn1")
            yield from layer(place, "conv2", "bn2")
            if projections and stage > 1 and block == 0:
                yield from layer(place, "shortcut.0", "shortcut.1")
    yield from ("linear.weight", "linear.bias")


def _refuse(problem: str, names: list[str]) -> None:
    if names:
        raise ValueError(f"{problem} {', '.join(names)}")
