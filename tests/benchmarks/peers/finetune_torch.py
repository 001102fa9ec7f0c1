"""A step of tuning some blocks of ResNet-20 in torch: prints JSON of its time and memory.

    python finetune_torch.py CASE BATCH ROUNDS

As users write it: `requires_grad = False` for what is frozen, Adam of the others with coupled
decay, batch normalization in evaluation mode. One thread.
"""

import json
import sys
import time

import torch  # pyrefly: ignore[missing-import]
from peak_memory import peak  # pyrefly: ignore[missing-import]
from torch import nn  # pyrefly: ignore[missing-import]
from torch.nn import functional  # pyrefly: ignore[missing-import]


class Block(nn.Module):
    """Two convolutions with batch normalization around a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = (
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride > 1 or c_in != c_out:
            conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.shortcut(x) + self.bn2(self.conv2(y)))


class ResNet20(nn.Module):
    """Three stages of three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        stages, channels = [], 16
        for stage in range(3):
            blocks = []
            for number in range(3):
                stride = 2 if stage and not number else 1
                blocks.append(Block(channels, 16 * 2**stage, stride))
                channels = 16 * 2**stage
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def main(case: str, batch: int, rounds: int) -> None:
    """Prints the least wall and CPU milliseconds of a step, and what memory it adds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ResNet20().eval()
    parts = {
        "block1": (model.conv1, model.layer1),
        "block2": (model.layer2,),
        "block3": (model.layer3,),
        "last": (model.fc,),
        "all": (model,),
    }
    model.requires_grad_(False)
    for part in parts[case]:
        part.requires_grad_(True)
    tuned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(tuned, lr=1e-4, weight_decay=1e-4)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    added = peak(step)
    best = {"ms": float("inf"), "cpu_ms": float("inf")}
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        took = {"ms": time.perf_counter() - wall, "cpu_ms": time.process_time() - cpu}
        best = {key: min(1e3 * took[key], best[key]) for key in took}
    print(json.dumps(best | {"mib": added, "version": torch.__version__}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
