"""The cases of `anp_vs_torch` in PyTorch: an Attentive Neural Process of the same size.

Runs in the peer's environment with this folder as working directory. Written as one writes it in
PyTorch: modules, fused attention with its own dropout, fused layer norm, fused Adam.
"""

import math
from functools import partial
from typing import Any

import torch  # pyrefly: ignore
import torch.nn.functional as F  # pyrefly: ignore  # noqa: N812
from timed_cases import Case  # pyrefly: ignore
from torch import nn  # pyrefly: ignore
from torch_cases import serve_torch, step_case  # pyrefly: ignore

HEADS, RATE, MIN_SCALE = 4, 0.1, 1e-3
# Width, functions; contexts and targets.
SIZES = {"anp step": (128, 16), "anp step cpu": (32, 16)}
POINTS = 100


def linear(c_in: int, c_out: int, *, gain: float = 1.0, bias: bool = True) -> Any:
    layer = nn.Linear(c_in, c_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    return layer


class Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query, self.keys, self.values = (linear(width, width, bias=False) for _ in range(3))
        self.output = linear(2 * width, width)
        self.dropout = nn.Dropout(RATE)
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Any, keys: Any, values: Any) -> Any:
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.keys, keys), (self.values, values))
        )
        rate = RATE if self.training else 0.0
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=rate).transpose(1, 2).flatten(2)
        y = self.dropout(self.output(torch.cat([query, found], dim=-1)))
        return self.norm(query + y)


class SetEncoder(nn.Module):
    """Points with values, after two layers of attention to each other."""

    def __init__(self, width: int):
        super().__init__()
        self.points = linear(3, width)
        self.attentions = nn.ModuleList(Attention(width) for _ in range(2))

    def forward(self, points: Any, values: Any) -> Any:
        x = self.points(torch.cat([points, values[..., None]], dim=-1))
        for layer in self.attentions:
            x = layer(x, x, x)
        return x


class LatentEncoder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.encoder = SetEncoder(width)
        self.hidden = linear(width, width, gain=math.sqrt(2))
        self.mean, self.log_variance = linear(width, width), linear(width, width)

    def forward(self, points: Any, values: Any) -> Any:
        hidden = self.hidden(self.encoder(points, values).mean(dim=1)).relu()
        scale = (self.log_variance(hidden) / 2).exp()
        return torch.distributions.Normal(self.mean(hidden), scale, validate_args=False)


class DeterministicEncoder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.encoder = SetEncoder(width)
        self.query, self.keys = linear(2, width), linear(2, width)
        self.attentions = nn.ModuleList(Attention(width) for _ in range(2))

    def forward(self, points: Any, values: Any, targets: Any) -> Any:
        values = self.encoder(points, values)
        query, keys = self.query(targets), self.keys(points)
        for layer in self.attentions:
            query = layer(query, keys, values)
        return query


class Decoder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.target = linear(2, width)
        layers = [linear(3 * width, 3 * width, gain=math.sqrt(2)) for _ in range(3)]
        self.layers = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))
        self.outputs = linear(3 * width, 2)

    def forward(self, found: Any, z: Any, targets: Any) -> Any:
        z = z[:, None, :].expand(-1, targets.shape[1], -1)
        hidden = self.layers(torch.cat([found, z, self.target(targets)], dim=-1))
        mean, scale = self.outputs(hidden).unbind(-1)
        return torch.distributions.Normal(mean, F.softplus(scale) + MIN_SCALE, validate_args=False)


class Anp(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.latent = LatentEncoder(width)
        self.deterministic = DeterministicEncoder(width)
        self.decoder = Decoder(width)

    def loss(self, points: Any, values: Any, targets: Any, target_values: Any) -> Any:
        posterior, prior = self.latent(targets, target_values), self.latent(points, values)
        found = self.deterministic(points, values, targets)
        normal = self.decoder(found, posterior.rsample(), targets)
        divergence = torch.distributions.kl_divergence(posterior, prior)
        return divergence.sum() - normal.log_prob(target_values).sum()


def training_case(size: str) -> Case:
    """One training step: negative ELBO with dropout, Adam."""
    width, batch = SIZES[size]
    points, targets = torch.rand(2, batch, POINTS, 2)
    values, target_values = torch.randn(2, batch, POINTS)
    net = Anp(width)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

    return step_case(optimizer, partial(net.loss, points, values, targets, target_values))


def main() -> None:
    parameters = {
        size: sum(p.numel() for p in Anp(width).parameters()) for size, (width, _) in SIZES.items()
    }
    serve_torch({size: partial(training_case, size) for size in SIZES}, parameters=parameters)


if __name__ == "__main__":
    main()
