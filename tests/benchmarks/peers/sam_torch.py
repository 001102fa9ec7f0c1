"""Steps of SGD and of SAM in torch, on a pre-activation ResNet-18: prints JSON of their times.

    python sam_torch.py WIDTH BATCH ROUNDS

Two threads, as its default on two cores is. SAM as users write it: two backward passes, the
weights moved in place by `_foreach` operations and moved back.
"""

import json
import sys
import time

import torch  # pyrefly: ignore[missing-import]
from torch import nn  # pyrefly: ignore[missing-import]
from torch.nn import functional  # pyrefly: ignore[missing-import]

RHO = 0.1


class Block(nn.Module):
    """Two convolutions, each behind batch normalization and ReLU, around a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out)])
        self.first = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        is_same = stride == 1 and c_in == c_out
        self.shortcut = None if is_same else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.norms[0](x))
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.second(functional.relu(self.norms[1](self.first(active))))


def network(width: int) -> nn.Module:
    """Returns the network, ten classes."""
    blocks, channels = [], width
    for stage in range(4):
        for number in range(2):
            stride = 2 if stage and not number else 1
            blocks.append(Block(channels, width * 2**stage, stride))
            channels = width * 2**stage
    head = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
    return nn.Sequential(stem, *blocks, *head, nn.Linear(channels, 10))


def main(width: int, batch: int, rounds: int) -> None:
    """Prints the least wall and CPU milliseconds of both steps, which take turns."""
    torch.manual_seed(0)
    model = network(width).train()
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=0.05, momentum=0.9)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))

    def backward() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), y).backward()

    def sgd() -> None:
        backward()
        optimizer.step()

    def sam() -> None:
        backward()
        with torch.no_grad():
            grads = [p.grad for p in params]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
            offset = torch._foreach_mul(grads, float(RHO / (norm + 1e-7)))
            torch._foreach_add_(params, offset)
        backward()
        with torch.no_grad():
            torch._foreach_sub_(params, offset)
        optimizer.step()

    best: dict[str, dict[str, float]] = {}
    for turn in range(rounds + 1):
        for name, step in (("torch SGD", sgd), ("torch SAM", sam)):
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            took = {
                "ms": 1e3 * (time.perf_counter() - wall),
                "cpu_ms": 1e3 * (time.process_time() - cpu),
            }
            if turn:
                before = best.get(name, took)
                best[name] = {key: min(took[key], before[key]) for key in took}
    print(json.dumps(best))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
