"""What table theory says: gradient flow on two layers, beside its closed forms.

`everything` is the function `config -> metrics` of its cells, which takes the seed alone.
"""

import numpy as np
from ml_collections import ConfigDict

from finetune import two_layer
from finetune.two_layer import Flow, Problem, TwoLayer

TIMES = np.linspace(0, 120, 121)
DIMENSION = 8
POINTS = 200


def _flows(problem: Problem) -> dict[str, Flow]:
    return {
        tune: two_layer.gradient_flow(
            problem.network, problem.inputs, problem.targets, tune=tune, times=TIMES
        )
        for tune in two_layer.TUNED
    }


def _losses(problem: Problem, flows: dict[str, Flow]) -> dict[str, float]:
    """Returns the target loss at the end of every flow, and the least one on the way of both."""
    found = {tune: two_layer.target_loss(flow.end, problem.truth) for tune, flow in flows.items()}
    way = [TwoLayer(v, b) for v, b in zip(flows["both"].v, flows["both"].b, strict=True)]
    least = min(two_layer.target_loss(net, problem.truth) for net in way)
    moved = max(
        float(np.abs(two_layer.conserved(net) - two_layer.conserved(problem.network)).max())
        for net in way
    )
    return {**found, "least": least, "moved": moved}


def _apart(problem: Problem, flows: dict[str, Flow]) -> dict[str, float]:
    """Returns how far the ends of both flows on one example are from their closed forms."""
    net, x, y = problem.network, problem.inputs[0], problem.targets[0]
    b = net.b @ x
    first = two_layer.first_layer_limit(net.v, b, y)
    v_both, b_both = two_layer.both_layers_limit(net.v, b, y)
    pairs = (
        (flows["first"].end.b @ x, first),
        (flows["both"].end.v, v_both),
        (flows["both"].end.b @ x, b_both),
    )
    apart = max(float(np.abs(found - exact).max()) for found, exact in pairs)
    return {"apart": apart, "squared": two_layer.limit_squared(net.v, b, y)}


def smallest(seed: int) -> dict[str, float]:
    """Returns losses of the smallest case of the theorem.

    Source: Lee et al. (2023), Thm. 1; the case was derived anew.
    """
    del seed
    problem = two_layer.smallest_case()
    flows = _flows(problem)
    return {**_losses(problem, flows), **_apart(problem, flows)}


def one_shown(seed: int) -> dict[str, float]:
    """Returns losses where a random network of 8 inputs sees one direction of the target.

    Source: Lee et al. (2023), Thm. 1.
    """
    problem = two_layer.random_case(seed, dimension=DIMENSION, shown=1)
    flows = _flows(problem)
    return {**_losses(problem, flows), **_apart(problem, flows)}


def three_shown(seed: int) -> dict[str, float]:
    """Returns losses where a random network of 8 inputs sees three directions of the target.

    Source: Lee et al. (2023), Thm. 1.
    """
    problem = two_layer.random_case(seed, dimension=DIMENSION, shown=3)
    return _losses(problem, _flows(problem))


def rotated_inputs(seed: int) -> dict[str, float]:
    """Returns the least losses of each layer behind ReLU when inputs are rotated.

    Source: Lee et al. (2023), Prop. 1.
    """
    network, x, random = _relu_problem(seed)
    rotation = np.linalg.qr(random.normal(size=(DIMENSION, DIMENSION)))[0]
    targets = two_layer.outputs(network, x, relu=True)
    shifted = x @ rotation.T
    exact = two_layer.first_layer_for_inputs(network, rotation)
    errors = two_layer.outputs(exact, shifted, relu=True) - targets
    scale = float(np.mean(targets**2) / 2)
    return {
        "first": float(np.mean(errors**2) / 2 / scale),
        "last": two_layer.last_layer_loss(network, shifted, targets) / scale,
    }


def negated_labels(seed: int) -> dict[str, float]:
    """Returns the least losses of each layer behind ReLU when labels change their sign.

    Source: Lee et al. (2023), Prop. 2.
    """
    network, x, _ = _relu_problem(seed)
    network = network._replace(v=np.abs(network.v))
    targets = -two_layer.outputs(network, x, relu=True)
    exact = two_layer.last_layer_for_labels(network, -1.0)
    errors = two_layer.outputs(exact, x, relu=True) - targets
    scale = float(np.mean(targets**2) / 2)
    return {
        "first": two_layer.first_layer_loss(network, targets) / scale,
        "last": float(np.mean(errors**2) / 2 / scale),
    }


def _relu_problem(seed: int) -> tuple[TwoLayer, np.ndarray, np.random.Generator]:
    random = np.random.default_rng((seed, DIMENSION))
    network = TwoLayer(random.normal(size=DIMENSION), random.normal(size=(DIMENSION, DIMENSION)))
    return network, random.normal(size=(POINTS, DIMENSION)), random


CASES = {
    "smallest": smallest,
    "one_shown": one_shown,
    "three_shown": three_shown,
    "rotated_inputs": rotated_inputs,
    "negated_labels": negated_labels,
}


def everything(config: ConfigDict) -> dict[str, float]:
    """Returns the numbers of every case, "smallest_first" and so on."""
    found = {name: case(config.seed) for name, case in CASES.items()}
    return {f"{name}_{key}": v for name, values in found.items() for key, v in values.items()}
