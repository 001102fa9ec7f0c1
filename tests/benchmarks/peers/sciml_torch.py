"""The cases of `sciml_vs_torch` in PyTorch, with the FNO of the package neuraloperator.

Runs in the peer's environment with this folder as working directory. "default": all options as
the package has them; "plain": without the channel MLP and with a linear lifting, which is the
network of Li et al. (2021) but for a second GELU after each layer. The fused Adam refuses the
complex multipliers.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch  # pyrefly: ignore
from timed_cases import Case  # pyrefly: ignore
from torch_cases import serve_torch, step_case  # pyrefly: ignore

FNO: Any = import_module("neuralop.models").FNO
BATCH = 20
# Grid (space, time), modes of both signs, width.
SIZES = {"fno1d": ((500,), (30,), 64), "fno2d": ((128, 25), (24, 22), 32)}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain": {"use_channel_mlp": False, "lifting_channel_ratio": 0},
}


def network(size: str, options: str) -> Any:
    _, modes, width = SIZES[size]
    return FNO(
        n_modes=modes,
        in_channels=1,
        out_channels=1,
        hidden_channels=width,
        n_layers=4,
        **OPTIONS[options],
    )


def training_case(size: str, options: str) -> Case:
    """One training step: sum over the batch of relative L2 errors, Adam with l2."""
    x, y = torch.randn(2, BATCH, 1, *SIZES[size][0])
    net = network(size, options)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4)

    def loss() -> Any:
        return ((net(x) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)).sum()

    return step_case(optimizer, loss)


def forward_case(size: str, options: str) -> Case:
    x, net = torch.randn(BATCH, 1, *SIZES[size][0]), network(size, options)

    def run() -> None:
        with torch.no_grad():
            net(x)

    return Case(run)


def num_parameters(net: Any) -> int:
    """Counts real numbers: a complex multiplier is two."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in net.parameters())


def main() -> None:
    cases: dict[str, Callable[[], Case]] = {}
    parameters = {}
    for size in SIZES:
        for options in OPTIONS:
            cases[f"{size} step {options}"] = partial(training_case, size, options)
            cases[f"{size} forward {options}"] = partial(forward_case, size, options)
            parameters[f"{size} {options}"] = num_parameters(network(size, options))
    serve_torch(cases, neuraloperator=version("neuraloperator"), parameters=parameters)


if __name__ == "__main__":
    main()
