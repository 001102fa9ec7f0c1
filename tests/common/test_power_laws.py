"""Power laws: known ones found again, bounds, coverage of intervals, sizes that grow together."""

import numpy as np
import pytest

from common.power_laws import EXPONENTS, Axis, extrapolate, fit_power_law

SIZES = (250.0, 500.0, 1_000.0, 2_000.0)


def runs(law: tuple[float, float, float], noise: float, seed: int, n: int = 3) -> tuple:
    """Errors of n runs of every size: floor, error above it at the smallest size, exponent."""
    floor, rest, exponent = law
    draw = np.random.default_rng(seed).standard_normal
    errors = (floor + rest * (size / SIZES[0]) ** -exponent for size in SIZES)
    return tuple(tuple((error * (1 + noise * draw(n))).tolist()) for error in errors)


def test_exact_power_laws_are_found_again() -> None:
    floors, rests = np.array([0.0, 0.3, 2.0]), np.array([1.0, 0.5, 7.0])
    exponents = EXPONENTS[[30, 60, 90]]
    x = np.array(SIZES) / SIZES[0]

    law = fit_power_law(SIZES, floors[:, None] + rests[:, None] * x[None] ** -exponents[:, None])

    np.testing.assert_allclose(law.exponent, exponents)
    # Ill-conditioned: powers differ little from constants, which costs a few digits of 16.
    np.testing.assert_allclose(law.floor, floors, atol=1e-9)
    np.testing.assert_allclose(law.amplitude * SIZES[0] ** -exponents, rests, rtol=1e-9)
    np.testing.assert_allclose(law.at(1e5), floors + rests * (1e5 / SIZES[0]) ** -exponents)


def test_the_unit_of_errors_and_sizes_does_not_matter() -> None:
    (a,) = extrapolate((Axis(SIZES, runs((0.2, 0.5, 0.6), 0.02, 0), 4e3, 1e3),), draws=20)[:1]
    errors = tuple(tuple(8 * e for e in row) for row in runs((0.2, 0.5, 0.6), 0.02, 0))
    (b,) = extrapolate((Axis(tuple(4 * s for s in SIZES), errors, 16e3, 4e3),), draws=20)[:1]

    np.testing.assert_allclose(b, 8 * np.array(a), rtol=1e-9)


def test_errors_that_do_not_fall_have_a_floor_alone() -> None:
    law = fit_power_law(SIZES, np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.1, 1.2, 1.3]]))

    np.testing.assert_allclose(law.amplitude[1], 0)
    assert law.exponent[1] == 0
    np.testing.assert_allclose(law.at(1e6), law.at(SIZES[0]))
    np.testing.assert_allclose(law.floor[0] + law.amplitude[0], 1, rtol=1e-9)


def test_errors_that_fall_ever_faster_have_no_floor_below_zero() -> None:
    errors = np.array([1.0, 0.9, 0.7, 0.3])

    assert fit_power_law(SIZES, errors).floor == 0
    assert fit_power_law(SIZES, errors, floor_from_zero=False).floor < 0


@pytest.mark.parametrize(
    ("sizes", "errors", "wrong"),
    [
        ((1.0, 2.0), [[1.0, 0.5]], "needs 3 different sizes"),
        ((1.0, 2.0, 2.0), [1.0, 0.5, 0.5], "needs 3 different sizes"),
        ((1.0, 2.0, 4.0), [1.0, 0.5], "needs 3 different sizes"),
        ((1.0, 2.0, 0.0), [1.0, 0.5, 0.2], "positive"),
        ((1.0, 2.0, 4.0), [1.0, 0.5, 0.0], "positive"),
        ((1.0, 2.0, 4.0), [1.0, 0.5, np.nan], "positive"),
    ],
)
def test_what_is_no_size_or_error_is_refused(sizes: tuple, errors: list, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        fit_power_law(sizes, np.array(errors))


def test_one_run_of_a_size_says_nothing_about_the_spread() -> None:
    errors = ((1.0,), (0.5, 0.6), (0.3, 0.4))
    with pytest.raises(ValueError, match="two runs"):
        extrapolate((Axis((1.0, 2.0, 4.0), errors, 8.0, 4.0),))
    with pytest.raises(ValueError, match="centre 3"):
        extrapolate((Axis((1.0, 2.0, 4.0), ((1.0, 1.1),) * 3, 8.0, 3.0),))


# Without a floor the bound matters; with one at half of the error it does not.
@pytest.mark.parametrize("law", [(0.0, 1.0, 0.5), (0.2, 0.8, 0.5)], ids=["no floor", "floor"])
def test_the_interval_holds_the_truth_about_nine_times_of_ten(law: tuple) -> None:
    _check_coverage(law, trials=40)


@pytest.mark.slow
@pytest.mark.parametrize("law", [(0.0, 1.0, 0.5), (0.2, 0.8, 0.5), (0.4, 0.6, 0.2), (0.1, 1, 1.0)])
def test_the_interval_holds_the_truth_of_many_laws(law: tuple) -> None:
    _check_coverage(law, trials=400)


def _check_coverage(law: tuple[float, float, float], *, trials: int) -> None:
    floor, rest, exponent = law
    at = 16 * SIZES[-1]
    truth = floor + rest * (at / SIZES[0]) ** -exponent
    found = [
        extrapolate((Axis(SIZES, runs(law, 0.02, seed), at, SIZES[-1]),), draws=100)
        for seed in range(trials)
    ]
    value, power = (
        np.mean([interval.low <= true <= interval.high for interval in intervals])
        for true, intervals in (
            (truth, [f.error for f in found]),
            (exponent, [f.axes[0].exponent for f in found]),
        )
    )
    # 0.9 is meant and 0.8 to 0.9 is what three runs give; three standard errors of the trials more.
    slack = 3 * np.sqrt(0.1 / trials)
    assert 0.8 - slack < min(value, power)
    assert np.mean([f.error.high - f.error.low for f in found]) < 2 * (floor + rest)  # says much


def test_sizes_that_grow_together_add_up_what_they_gain() -> None:
    floor, centre = 0.1, 1_000.0
    rests, exponents = (0.4, 0.2), EXPONENTS[[60, 75]]

    def error(a: float, b: float) -> float:
        pairs = zip((a, b), rests, exponents, strict=True)
        return floor + sum(rest * (x / centre) ** -power for x, rest, power in pairs)

    first = tuple((error(x, centre),) * 2 for x in SIZES)
    second = tuple((error(centre, x),) * 2 for x in SIZES)
    found = extrapolate((Axis(SIZES, first, 3e4, centre), Axis(SIZES, second, 1e5, centre)))

    np.testing.assert_allclose(found.error, error(3e4, 1e5), rtol=1e-7)  # no spread: one number
    np.testing.assert_allclose(found.axes[0].at(3e4), error(3e4, centre), rtol=1e-7)
    np.testing.assert_allclose(found.axes[1].exponent, exponents[1])


def test_a_curve_that_bends_the_other_way_does_not_fit() -> None:
    bent = ((1.0, 1.01), (0.9, 0.91), (0.5, 0.51), (0.49, 0.5))
    straight = runs((0.2, 0.5, 0.6), 0.02, 1)

    misfits = [
        extrapolate((Axis(SIZES[: len(errors)], errors, 1e4, 1e3),)).axes[0].misfit
        for errors in (bent, straight, straight[:3])
    ]

    assert misfits[0] is not None and misfits[1] is not None
    assert misfits[0] < 0.01 < 0.05 < misfits[1]
    assert misfits[2] is None
