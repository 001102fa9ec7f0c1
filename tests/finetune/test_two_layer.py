"""Two layers: closed forms of what each can undo, against gradient flow and brute force."""

import numpy as np
import pytest

from finetune import two_layer
from finetune.two_layer import TwoLayer

TIMES = np.linspace(0, 30, 31)


def network_of(seed: int, *, units: int = 5, inputs: int = 3) -> TwoLayer:
    random = np.random.default_rng(seed)
    return TwoLayer(random.normal(size=units), random.normal(size=(units, inputs)))


@pytest.mark.parametrize("relu", [False, True])
def test_a_first_layer_undoes_a_linear_shift_of_the_input(relu: bool) -> None:
    source, random = network_of(0), np.random.default_rng(1)
    matrix, x = random.normal(size=(3, 3)), random.normal(size=(20, 3))
    moved = two_layer.first_layer_for_inputs(source, matrix)

    before = two_layer.outputs(source, x, relu=relu)
    after = two_layer.outputs(moved, x @ matrix.T, relu=relu)
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(moved.v, source.v)


def test_no_last_layer_undoes_a_rotation_behind_relu() -> None:
    source, random = network_of(2), np.random.default_rng(3)
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    x = random.normal(size=(200, 3))
    targets = two_layer.outputs(source, x, relu=True)
    best = two_layer.last_layer_loss(source, x @ rotation.T, targets)

    assert best > 1e-3 * np.mean(targets**2)
    assert two_layer.last_layer_loss(source, x, targets) < 1e-12 * np.mean(targets**2)
    for scale in (0.5, 1.0, 2.0):  # no worse than any other last layer
        other = source._replace(v=scale * source.v)
        errors = two_layer.outputs(other, x @ rotation.T, relu=True) - targets
        assert best <= np.mean(errors**2) / 2


def test_a_last_layer_undoes_a_shift_of_the_label_and_a_first_layer_may_not() -> None:
    source = network_of(4)._replace(v=np.abs(network_of(4).v))
    x = np.random.default_rng(5).normal(size=(100, 3))
    targets = -two_layer.outputs(source, x, relu=True)
    solved = two_layer.last_layer_for_labels(source, -1.0)
    floor = two_layer.first_layer_loss(source, targets)

    np.testing.assert_allclose(two_layer.outputs(solved, x, relu=True), targets, rtol=1e-12)
    assert floor > 0.01
    for b in np.random.default_rng(6).normal(size=(50, 5, 3)):
        errors = two_layer.outputs(source._replace(b=b), x, relu=True) - targets
        assert np.mean(errors**2) / 2 >= floor
    zero = source._replace(b=0 * source.b)  # attains it
    errors = two_layer.outputs(zero, x, relu=True) - targets
    np.testing.assert_allclose(np.mean(errors**2) / 2, floor, rtol=1e-12)
    with pytest.raises(ValueError, match="v >= 0"):
        two_layer.first_layer_loss(source, -targets)


def test_gradients_are_differences_of_the_loss() -> None:
    network, random = network_of(6), np.random.default_rng(7)
    x, y = random.normal(size=(9, 3)), random.normal(size=9)
    slope = two_layer.gradients(network, x, y, relu=True)
    loss = lambda net: np.mean((two_layer.outputs(net, x, relu=True) - y) ** 2) / 2

    for name in ("v", "b"):
        step = random.normal(size=getattr(network, name).shape)
        moved = [
            network._replace(**{name: getattr(network, name) + h * step}) for h in (1e-6, -1e-6)
        ]
        slope_along = (loss(moved[0]) - loss(moved[1])) / 2e-6
        np.testing.assert_allclose(np.sum(getattr(slope, name) * step), slope_along, rtol=1e-5)


def test_the_smallest_case_of_the_theorem() -> None:
    problem = two_layer.smallest_case()
    net, y = problem.network, problem.targets[0]
    first, both = (
        two_layer.gradient_flow(net, problem.inputs, problem.targets, tune=tune, times=TIMES)
        for tune in ("first", "both")
    )

    assert two_layer.target_loss(first.end, problem.truth) < 1e-12
    b = two_layer.first_layer_limit(net.v, net.b[:, 0], y)
    np.testing.assert_allclose(b, [0, -1], atol=1e-12)
    np.testing.assert_allclose(first.end.b[:, 0], b, atol=1e-8)
    np.testing.assert_array_equal(first.end.b[:, 1], [0, 1])

    assert abs(two_layer.limit_squared(net.v, net.b[:, 0], y) - 1 / 5) < 1e-12
    v, b = two_layer.both_layers_limit(net.v, net.b[:, 0], y)
    root = np.sqrt(5)
    np.testing.assert_allclose(v, [1 / root, 3 / root], rtol=1e-12)
    np.testing.assert_allclose(b, [1 / root, -2 / root], rtol=1e-12)
    np.testing.assert_allclose(both.end.v, v, rtol=1e-6)
    np.testing.assert_allclose(both.end.b[:, 0], b, rtol=1e-6)
    np.testing.assert_allclose(
        two_layer.target_loss(both.end, problem.truth), (3 / root - 1) ** 2 / 2, rtol=1e-5
    )
    assert (both.v[1:, 1] > 1).all()  # so that the loss is never zero
    kept = two_layer.conserved(net)
    for v, b in zip(both.v, both.b, strict=True):
        np.testing.assert_allclose(two_layer.conserved(TwoLayer(v, b)), kept, atol=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_theorem_in_random_directions(seed: int) -> None:
    problem = two_layer.random_case(seed, dimension=6, shown=2)
    losses = {}
    for tune in ("first", "both"):
        flow = two_layer.gradient_flow(
            problem.network, problem.inputs, problem.targets, tune=tune, times=4 * TIMES
        )
        at = [TwoLayer(v, b) for v, b in zip(flow.v, flow.b, strict=True)]
        losses[tune] = [two_layer.target_loss(net, problem.truth) for net in at]

    assert losses["first"][-1] < 1e-10
    assert min(losses["both"]) > 1e-2


def test_one_example_in_any_direction_has_the_closed_form() -> None:
    problem = two_layer.random_case(3, dimension=5, shown=1)
    net, x = problem.network, problem.inputs[0]
    flow = two_layer.gradient_flow(
        net, problem.inputs, problem.targets, tune="both", times=4 * TIMES
    )
    v, b = two_layer.both_layers_limit(net.v, net.b @ x, problem.targets[0])

    np.testing.assert_allclose(flow.end.v, v, atol=1e-6)
    np.testing.assert_allclose(flow.end.b, net.b + np.outer(b - net.b @ x, x), atol=1e-6)


def test_what_cannot_be_tuned_is_refused() -> None:
    net = network_of(0)
    with pytest.raises(ValueError, match="target set is empty"):
        two_layer.gradient_flow(net, np.zeros((0, 3)), np.zeros(0), tune="both", times=TIMES)
    with pytest.raises(ValueError, match="tune='middle': expected one of first"):
        two_layer.gradient_flow(net, np.ones((1, 3)), np.ones(1), tune="middle", times=TIMES)
    with pytest.raises(ValueError, match="shown=5: expected 1 to 4"):
        two_layer.random_case(0, dimension=5, shown=5)
