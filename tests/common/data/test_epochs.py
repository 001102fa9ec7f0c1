"""Every epoch holds every example once, whatever the batch size, and any step can be asked for."""

import numpy as np
import pytest

from common.data.epochs import epoch_indices


@pytest.mark.parametrize("batch_size", [1, 4, 6, 7, 20, 33, 100])
def test_each_epoch_visits_every_example_exactly_once(batch_size: int) -> None:
    num_examples, epochs = 20, 5
    steps = -(-num_examples * epochs // batch_size)
    batches = [
        epoch_indices(3, step, num_examples=num_examples, batch_size=batch_size)
        for step in range(steps)
    ]

    assert all(batch.shape == (batch_size,) and batch.dtype == np.int32 for batch in batches)
    row = np.concatenate(batches)[: num_examples * epochs].reshape(epochs, num_examples)
    np.testing.assert_array_equal(
        np.sort(row, axis=1), np.tile(np.arange(num_examples), (epochs, 1))
    )
    assert len({tuple(epoch) for epoch in row}) == epochs  # each in an order of its own


def test_the_order_of_examples_does_not_depend_on_the_batch_size() -> None:
    small = [epoch_indices(0, step, num_examples=30, batch_size=4) for step in range(30)]
    large = [epoch_indices(0, step, num_examples=30, batch_size=12) for step in range(10)]
    np.testing.assert_array_equal(np.concatenate(small), np.concatenate(large))


def test_a_step_is_the_same_in_any_order_of_asking() -> None:
    ask = lambda step: epoch_indices(1, step, num_examples=50, batch_size=8)
    forward = [ask(step) for step in range(100)]
    forward[3][:] = -1  # a caller may write into its batch
    for step in reversed(range(100)):
        if step != 3:
            np.testing.assert_array_equal(ask(step), forward[step])
    assert ask(3).min() >= 0


def test_seeds_shuffle_differently() -> None:
    orders = {tuple(epoch_indices(seed, 0, num_examples=100, batch_size=100)) for seed in range(20)}
    assert len(orders) == 20


def test_the_order_is_the_documented_permutation() -> None:
    # Not a golden value of ours: a change of NumPy's generator would break exact resume.
    order = np.random.default_rng((7, 2)).permutation(10)
    np.testing.assert_array_equal(epoch_indices(7, 2, num_examples=10, batch_size=10), order)
    np.testing.assert_array_equal(
        np.random.default_rng((7, 2)).permutation(10), [1, 5, 3, 4, 6, 9, 0, 8, 2, 7]
    )


@pytest.mark.parametrize(
    ("seed", "step", "num_examples", "batch_size"),
    [(-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)],
)
def test_impossible_sizes_are_refused(
    seed: int, step: int, num_examples: int, batch_size: int
) -> None:
    with pytest.raises(ValueError, match="epoch_indices wants"):
        epoch_indices(seed, step, num_examples=num_examples, batch_size=batch_size)
