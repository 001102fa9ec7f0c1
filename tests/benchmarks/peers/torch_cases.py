"""What cases in PyTorch share. Runs in the peer's environment, with this folder on its path."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch  # pyrefly: ignore
from timed_cases import Case, serve  # pyrefly: ignore


def matmul_case() -> Case:
    """A product of two matrices, to tell what share of the peak others reach."""
    a = torch.randn(1024, 1024)
    return Case(lambda: a @ a, flops=2 * 1024**3)


def features_case(net: Any, x: Any, *, backward: bool) -> Case:
    """A network on weight-space features; the gradient is that of the parameters."""

    def forward() -> None:
        with torch.no_grad():
            net(x)

    def both() -> None:
        net.zero_grad(set_to_none=True)
        y = net(x)
        torch.stack([t.square().mean() for t in (*y.weights, *y.biases)]).sum().backward()

    return Case(both if backward else forward)


def step_case(optimizer: Any, loss: Callable[[], Any], *, steps: int = 1) -> Case:
    """Training steps, one after another."""

    def run() -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()

    return Case(run, units=steps)


def serve_torch(makers: Mapping[str, Callable[[], Case]], **facts: Any) -> None:
    """Times cases with a thread for every core of this process, see `timed_cases.serve`."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    serve({"matmul": matmul_case, **makers}, {**about, **facts})
