"""Figure of table theory: the smallest case of the theorem over time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.figures import RunDirectories, heading, legend_below, page
from finetune import two_layer
from finetune.two_layer import TwoLayer

TIMES = np.linspace(0, 6, 121)
COLORS = {"first": "tab:green", "last": "tab:blue", "both": "tab:red"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws target losses of three gradient flows, and the last layer of that on both.

    Args:
        data: The table's JSON.
        run_directories: Not used: the flows take milliseconds.
        out_path: The PNG to write.
    """
    del run_directories
    problem = two_layer.smallest_case()
    v_end, _ = two_layer.both_layers_limit(problem.network.v, problem.network.b[:, 0], -1.0)
    with page(out_path, (9, 4)) as figure:
        losses, layers = figure.subplots(1, 2)
        for tune, color in COLORS.items():
            flow = two_layer.gradient_flow(
                problem.network, problem.inputs, problem.targets, tune=tune, times=TIMES
            )
            way = [TwoLayer(v, b) for v, b in zip(flow.v, flow.b, strict=True)]
            values = [two_layer.target_loss(net, problem.truth) for net in way]
            losses.plot(TIMES, values, color=color, label=f"{tune} tuned")
            if tune == "both":
                for i, style in enumerate(("-", "--")):
                    layers.plot(TIMES, flow.v[:, i], style, color=color, label=f"v{i + 1}")
                    layers.axhline(v_end[i], color="0.7", lw=0.8)
        losses.axhline(0.0584, color="0.7", lw=0.8)
        losses.set(yscale="log", ylim=(1e-4, 3), xlabel="time", ylabel="target loss")
        layers.set(xlabel="time", ylabel="last layer; grey: closed form of the limit")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
