"""Every problem by name: one interface, data that vary, and one clear error for bad numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes.benchmarks import PdeSpec
from sciml.pdes.problems import PROBLEMS, check_spec
from sciml.pdes.solution import Solution, frame_times, uniform_grid


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_has_one_interface(name: str) -> None:
    problem, points, num = PROBLEMS[name], 9, 3
    spec = problem.default
    if spec.resolution:
        spec = spec._replace(resolution=33)
    times = frame_times(0.5, stored=5, kept=4)

    @jax.jit
    def solved(key: jax.Array) -> Solution:
        return problem.solve(problem.sample(key, num, spec), points, times, spec)

    solution = solved(jax.random.key(0))
    space, frames = (points,) * problem.space_axes, np.asarray(solution.frames)

    assert solution.initial.shape == (num, *space) and frames.shape == (num, *space, 4)
    assert frames.dtype == np.float32 and np.all(np.isfinite(frames))
    assert len(solution.boundary) == problem.space_axes
    others = tuple(range(1, frames.ndim))
    assert np.all(np.ptp(frames, axis=others) > 0.1)  # in space and time
    assert np.all(np.abs(np.diff(frames, axis=-1)).max(axis=others) > 0.01)  # in time
    assert np.all(np.abs(np.diff(frames, axis=0)).max(axis=others) > 1e-3)  # over the samples
    for axis, ends in enumerate(solution.boundary):
        for at, data in zip((0, -1), ends, strict=True):
            assert data.shape == frames.shape[: axis + 1] + frames.shape[axis + 2 :]
            if problem.kind == "dirichlet":
                chex.assert_trees_all_equal(np.asarray(data), frames.take(at, axis=axis + 1))


@pytest.mark.parametrize("name", PROBLEMS)
def test_samples_are_a_function_of_the_key_within_the_range(name: str) -> None:
    problem = PROBLEMS[name]
    sample = jax.jit(lambda key: problem.sample(key, 100, problem.default))
    once, again, other = (
        np.asarray(jax.tree.leaves(sample(jax.random.key(seed)))[0]) for seed in (0, 0, 1)
    )

    chex.assert_trees_all_equal(once, again)
    assert np.unique(once).size > 90 and not np.any(once == other)
    if problem.default.high:
        low, high = problem.default.low, problem.default.high
        # 100 uniform numbers leave a tenth of the range empty with probability 3e-5.
        assert low <= once.min() < low + (high - low) / 10
        assert high - (high - low) / 10 < once.max() <= high


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (PdeSpec("stoke", nu=1.0), "config.data.name='stoke' is unknown .did you mean \"stokes\""),
        (PROBLEMS["stokes"].default._replace(nu=-1.0), "config.data.nu=-1.0: expected more than 0"),
        (PROBLEMS["heat"].default._replace(high=float("nan")), "config.data.high=nan: expected"),
        (PROBLEMS["heat"].default._replace(low=5.0), "config.data.low=5.0: .* most high=3.99"),
        (PROBLEMS["wave"].default._replace(nu=0.1), "config.data.nu=0.1: wave has none"),
        (PROBLEMS["cavity"].default._replace(resolution=3), "config.data.resolution=3: .* least 4"),
    ],
)
def test_bad_numbers_are_refused_by_name(spec: PdeSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_spec(spec)


def test_a_problem_refuses_the_spec_of_another_and_empty_batches() -> None:
    with pytest.raises(ValueError, match="config.data.name='heat': this problem is 'wave'"):
        PROBLEMS["wave"].sample(jax.random.key(0), 1, PROBLEMS["heat"].default)
    with pytest.raises(ValueError, match="a batch of 0 samples"):
        PROBLEMS["wave"].sample(jax.random.key(0), 0, PROBLEMS["wave"].default)


def test_times_are_the_last_stored_frames() -> None:
    chex.assert_trees_all_close(frame_times(1.0, stored=5, kept=2), jnp.asarray([0.75, 1.0]))
    for final_time, stored, kept in ((1.0, 5, 6), (1.0, 5, 0), (1.0, 1, 1), (0.0, 5, 5)):
        with pytest.raises(ValueError, match="expected"):
            frame_times(final_time, stored=stored, kept=kept)


def test_grids_hold_both_ends() -> None:
    chex.assert_trees_all_equal(uniform_grid(3, 2.0), jnp.asarray([0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match="points=1"):
        uniform_grid(1)
