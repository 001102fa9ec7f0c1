"""The cases of `landscape_vs_torch` with PyTorch and what there is for it.

Runs in the peer's environment with this folder as working directory. `loss_landscapes` draws its
directions itself; the loops evaluate the plane of the case's file.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch  # pyrefly: ignore
import torch.nn.functional as F  # pyrefly: ignore  # noqa: N812
from timed_cases import Case  # pyrefly: ignore
from torch import nn  # pyrefly: ignore
from torch_cases import serve_torch  # pyrefly: ignore

GRID, POINTS, PROBES = 51, 12, 50
LAYERS = ("conv_0", "conv_1", "conv_2", "dense")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_0 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv_1 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv_2 = nn.Conv2d(16, 16, 3, padding=1)
        self.dense = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        for layer in (self.conv_0, self.conv_1):
            x = F.avg_pool2d(F.relu(layer(x)), 2)
        return self.dense(F.relu(self.conv_2(x)).mean((2, 3)))


FOUND = np.load(os.environ["LANDSCAPE_CASE"])


def tree(name: str) -> list[Any]:
    """Returns tensors in the order of the network's parameters."""
    leaves = []
    for layer in LAYERS:
        kernel = FOUND[f"{name}/{layer}/kernel"]
        order = (1, 0) if kernel.ndim == 2 else (3, 2, 0, 1)
        leaves += [np.ascontiguousarray(kernel.transpose(order)), FOUND[f"{name}/{layer}/bias"]]
    return [torch.tensor(leaf) for leaf in leaves]


def network() -> tuple[Any, Any, Any]:
    """Returns the trained network, the images and the labels."""
    net = Net().eval()
    with torch.no_grad():
        for p, leaf in zip(net.parameters(), tree("params"), strict=True):
            p.copy_(leaf)
    x = torch.tensor(FOUND["x"].transpose(0, 3, 1, 2).copy())
    return net, x, torch.tensor(FOUND["y"].astype(np.int64))


def loop_case(batch: int, *, last: bool, rows: int | None) -> Case:
    """The plain loop: one point at a time; `rows` of the grid, or some points of the first.

    Args:
        batch: Images at once.
        last: Channels last in memory.
        rows: None: `POINTS` points.
    """
    net, x, y = network()
    if last:
        net, x = (
            net.to(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
        )
    start, d, e = tree("params"), tree("d"), tree("e")
    line = np.linspace(-1, 1, GRID)
    grid = [(a, b) for a in line for b in line][: POINTS if rows is None else rows * GRID]

    def run() -> list[float]:
        found = []
        with torch.no_grad():
            for a, b in grid:
                for p, w, u, v in zip(net.parameters(), start, d, e, strict=True):
                    p.copy_(w + a * u + b * v)
                total = 0.0
                for images, labels in zip(x.split(batch), y.split(batch), strict=True):
                    total += F.cross_entropy(net(images), labels, reduction="sum").item()
                found.append(total / len(x))
        return found

    return Case(run, units=len(grid))


def package_case(grid: int) -> Case:
    """The whole plane of the package loss-landscapes, of directions of its own."""
    package = import_module("loss_landscapes")
    metrics = import_module("loss_landscapes.metrics")
    net, x, y = network()
    metric = metrics.Loss(nn.CrossEntropyLoss(), x, y)

    def run() -> float:
        with torch.no_grad():
            found = package.random_plane(
                net, metric, distance=1, steps=grid, normalization="filter", deepcopy_model=True
            )
        return float(np.min(found))

    return Case(run, units=grid**2)


def curvlinops_operator(*, double: bool = False) -> Any:
    """Returns the Hessian of the package curvlinops as an operator of SciPy."""
    net, x, y = network()
    if double:
        net, x = net.double(), x.double()
    make = import_module("curvlinops").HessianLinearOperator
    parameters = list(net.parameters())
    return make(net, nn.CrossEntropyLoss(), parameters, [(x, y)], check_deterministic=False)


def arpack_case(*, double: bool) -> Case:
    """The five largest by SciPy's ARPACK: in float32 to its precision, in float64 to 1e-9."""
    eigsh = import_module("scipy.sparse.linalg").eigsh
    operator = curvlinops_operator(double=double).to_scipy()
    options = {"k": 5, "which": "LA", "return_eigenvectors": False, "tol": 1e-9 if double else 0}
    return Case(lambda: np.sort(eigsh(operator, **options))[::-1].tolist())


def pyhessian() -> Any:
    """Returns a new object of the package, which makes the graph of the gradient."""
    net, x, y = network()
    return import_module("pyhessian").hessian(net, nn.CrossEntropyLoss(), data=(x, y), cuda=False)


def power_case(rounds: int, tolerance: float) -> Case:
    """The five largest by power iteration with deflation."""
    options = {"maxIter": rounds, "tol": tolerance, "top_n": 5}
    return Case(lambda: pyhessian().eigenvalues(**options)[0])


def pyhessian_trace() -> list[float]:
    """Returns the mean over the probes and its standard error."""
    samples = pyhessian().trace(maxIter=PROBES, tol=0.0)
    return [float(np.mean(samples)), float(np.std(samples, ddof=1) / len(samples) ** 0.5)]


def eigenthings() -> tuple[Any, Any]:
    """Returns the package hessian_eigenthings and its operator."""
    package = import_module("hessian_eigenthings")
    net, x, y = network()
    loss = package.supervised_loss(nn.CrossEntropyLoss())
    return package, package.HessianOperator(net, [(x, y)], loss)


def lanczos_case(steps: int) -> Case:
    """The five largest by Lanczos with a number of steps that the user has to choose."""
    package, operator = eigenthings()
    options = {"k": 5, "max_iter": steps, "which": "LA", "seed": 0}
    return Case(lambda: package.lanczos(operator, **options).eigenvalues.tolist())


def product_case(package: str) -> Case:
    """One product of the Hessian with a vector."""
    if package == "curvlinops":
        operator = curvlinops_operator().to_scipy()
        vector = np.ones(operator.shape[0], np.float32)
        return Case(lambda: (operator @ vector) is None)
    if package == "eigenthings":
        _, operator = eigenthings()
        ones = torch.ones(operator.size)
        return Case(lambda: operator.matvec(ones) is None)
    held = pyhessian()
    product = import_module("pyhessian.utils").hessian_vector_product
    tensors = [torch.ones_like(p) for p in held.params]
    return Case(lambda: product(held.gradsH, held.params, tensors) is None)


def main() -> None:
    curvlinops = import_module("curvlinops")
    hutchinson = lambda: float(curvlinops.hutchinson_trace(curvlinops_operator(), PROBES))
    cases: dict[str, Callable[[], Case]] = {
        f"points/{name}": partial(loop_case, batch, last=last, rows=None)
        for name, batch, last in (
            ("torch", 1000, False),
            ("torch, batches of 128", 128, False),
            ("torch, channels last", 1000, True),
        )
    }
    cases |= {
        "points/loss-landscapes": partial(package_case, 4),
        "surface/torch": partial(loop_case, 1000, last=False, rows=GRID),
        "surface/torch, channels last": partial(loop_case, 1000, last=True, rows=GRID),
        "surface/loss-landscapes": partial(package_case, GRID),
        "top-5/reference": partial(arpack_case, double=True),
        "top-5/curvlinops": partial(arpack_case, double=False),
        "top-5/pyhessian": partial(power_case, 100, 1e-3),
        "top-5/pyhessian, tight": partial(power_case, 1000, 1e-6),
        "top-5/eigenthings": partial(lanczos_case, 20),
        "trace/curvlinops": lambda: Case(hutchinson),
        "trace/pyhessian": lambda: Case(pyhessian_trace),
    }
    for package in ("curvlinops", "pyhessian", "eigenthings"):
        cases[f"product/{package}"] = partial(product_case, package)
    names = ("loss-landscapes", "pyhessian", "curvlinops-for-pytorch", "hessian-eigenthings")
    serve_torch(cases, packages={name: version(name) for name in names})


if __name__ == "__main__":
    main()
