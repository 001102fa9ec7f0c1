"""The cases of `nfn_vs_torch` in PyTorch, with the authors' package `nfn`.

Runs in the peer's environment with this folder as working directory: our folder `nfn/` is not
on its path. Every case is the way a user of PyTorch has: eager modules, `torch.func` for many
networks at once, the fused Adam.
"""

import math
from functools import partial
from importlib import import_module
from typing import Any

import torch  # pyrefly: ignore
from timed_cases import Case  # pyrefly: ignore
from torch.nn.functional import cross_entropy  # pyrefly: ignore
from torch_cases import features_case, serve_torch, step_case  # pyrefly: ignore

peer: Any = import_module("nfn.layers")  # by name: to our tools `nfn` is the other one
common: Any = import_module("nfn.common")

LAYERS = {"np": "NPLinear", "hnp": "HNPLinear", "pt": "Pointwise"}
SHAPES = {"64": (64, 64), "512": (8, 512)}  # batch, channels


def random_features(batch: int, channels: int, widths: tuple[int, ...]) -> Any:
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    return common.WeightSpaceFeatures(
        [torch.randn(batch, channels, o, i) for i, o in pairs],
        [torch.randn(batch, channels, o) for _, o in pairs],
    )


def layer_case(kind: str, shape: str, *, backward: bool) -> Case:
    """One layer on a batch of SIRENs 2-32-32-1; the gradient is that of the parameters."""
    batch, channels = SHAPES[shape]
    x = random_features(batch, channels, (2, 32, 32, 1))
    spec = common.network_spec_from_wsfeat(x, set_all_dims=True)
    net = getattr(peer, LAYERS[kind])(spec, channels, channels)
    return features_case(net, x, backward=backward)


def siren_case() -> Case:
    """Ten Adam steps of 32 SIRENs 2-32-32-1 on all pixels of 28x28 images."""
    count, steps, widths, omega = 32, 10, (2, 32, 32, 1), 15.0
    ramp = torch.linspace(-1, 1, 28)
    pixels = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"), -1).reshape(-1, 2)
    targets = torch.rand(count, len(pixels), 1)
    params = []
    for i, (d_in, d_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        bound = 1 / d_in if i == 0 else math.sqrt(6 / d_in) / omega
        params.append(bound * (2 * torch.rand(count, d_in, d_out) - 1))
        params.append(torch.zeros(count, d_out))

    def loss(params: list[Any], target: Any) -> Any:
        x = pixels
        for i in range(0, len(params), 2):
            x = (torch.sin(omega * x) if i else x) @ params[i] + params[i + 1]
        return ((x - target) ** 2).mean()

    gradient = torch.func.vmap(torch.func.grad(loss))
    optimizer = torch.optim.Adam(params, lr=5e-3, fused=True)

    def run() -> None:
        for _ in range(steps):
            for p, g in zip(params, gradient(params, targets), strict=True):
                p.grad = g
            optimizer.step()

    return Case(run, units=count * steps)


def small_cnn() -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    )


def zoo_case() -> Case:
    """Training of one CNN 1-16-16-16-10 on 32x32 images, batch 64, Adam with l2, step by step."""
    steps, images, labels = 20, torch.randn(2_000, 1, 32, 32), torch.randint(10, (2_000,))
    net = small_cnn()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)

    def loss() -> Any:
        chosen = torch.randint(len(images), (64,))
        return cross_entropy(net(images[chosen]), labels[chosen])

    return step_case(optimizer, loss, steps=steps)


def zoo_together_case() -> Case:
    """The same for 16 CNNs at once under torch.func.vmap (their convolutions become grouped)."""
    count, steps, net = 16, 5, small_cnn()
    images, labels = torch.randn(2_000, 1, 32, 32), torch.randint(10, (2_000,))
    params, _ = torch.func.stack_module_state([small_cnn() for _ in range(count)])
    optimizer = torch.optim.Adam(list(params.values()), lr=1e-3, weight_decay=1e-4, fused=True)

    def loss(params: dict[str, Any], x: Any, y: Any) -> Any:
        return cross_entropy(torch.func.functional_call(net, params, (x,)), y)

    gradient = torch.func.vmap(torch.func.grad(loss))

    def run() -> None:
        for _ in range(steps):
            chosen = torch.randint(len(images), (count, 64))
            for name, g in gradient(params, images[chosen], labels[chosen]).items():
                params[name].grad = g
            optimizer.step()

    return Case(run, units=count * steps)


def classifier_case() -> Case:
    """One training step of the NP classifier of Table 3 at preset cpu; sizes as in `nfn_jax`."""
    batch, widths, channels, frequencies, bands = 64, (2, 16, 16, 1), 24, 8, 3
    data, labels = random_features(2_000, 1, widths), torch.randint(10, (2_000,))
    spec = common.network_spec_from_wsfeat(data, set_all_dims=True)
    sizes = [2 * frequencies + 2 * bands + 1] + 3 * [channels]
    blocks: list[Any] = [
        peer.GaussianFourierFeatureTransform(spec, 1, frequencies, 0.5),
        peer.IOSinusoidalEncoding(spec, 3.0, bands, enc_layers=False),
    ]
    for c_in, c_out in zip(sizes[:-1], sizes[1:], strict=True):
        blocks += [peer.NPLinear(spec, c_in, c_out), peer.TupleOp(torch.nn.ReLU())]
    head, flat = [], channels * peer.HNPPool.get_num_outs(spec)
    for width in (256, 256):
        head += [torch.nn.Linear(flat, width), torch.nn.ReLU()]
        flat = width
    head = [torch.nn.Flatten(), *head, torch.nn.Linear(flat, 10)]
    net = torch.nn.Sequential(*blocks, peer.HNPPool(spec), *head)
    statistics = [(t.mean(), t.std()) for t in (*data.weights, *data.biases)]
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True)

    def normalized(chosen: Any) -> Any:
        rows = [t[chosen] for t in (*data.weights, *data.biases)]
        x = [(row - m) / s for row, (m, s) in zip(rows, statistics, strict=True)]
        return common.WeightSpaceFeatures(x[: len(data.weights)], x[len(data.weights) :])

    def loss() -> Any:
        chosen = torch.randint(len(labels), (batch,))
        return cross_entropy(net(normalized(chosen)), labels[chosen])

    return step_case(optimizer, loss)


def main() -> None:
    layers = {
        f"{kind} {shape} {name}": partial(layer_case, kind, shape, backward=name == "both")
        for kind in LAYERS
        for shape in SHAPES
        for name in ("forward", "both")
    }
    whole = {
        "siren": siren_case,
        "zoo": zoo_case,
        "zoo together": zoo_together_case,
        "classifier": classifier_case,
    }
    serve_torch({**whole, **layers})


if __name__ == "__main__":
    main()
