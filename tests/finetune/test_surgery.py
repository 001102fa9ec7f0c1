"""What is recommended: by profiles, by measured shifts, and with which confidence."""

from typing import Any

import numpy as np
import pytest

from common.figures import page
from finetune import calibration, figures, surgery
from finetune.adaptation import Examples, cross_entropy
from tests.finetune import shifted

LAST, FIRST = (1.0, 1.0, 4.0), (4.0, 1.0, 1.0)  # profiles of two kinds of shift, clean data flat


def row(shift: str, profile: Any, best: str, seed: int, gain: float = 0.1) -> dict[str, Any]:
    """Returns a measured shift on which one block beats all others and full tuning."""
    random = np.random.default_rng([ord(c) for c in shift] + [seed])
    drawn = np.array(profile) * np.exp(0.01 * random.normal(size=3))
    test = dict.fromkeys(("block1", "block2", "last", "all"), 0.5) | {best: 0.5 + gain}
    clean = {f"{name}_clean": [1.0, 1.0, 1.0] for name in calibration.CRITERIA}
    measured = {name: drawn.tolist() for name in calibration.CRITERIA}
    return {"shift": shift, "seed": seed, "test": test, **measured, **clean}


def measured(gain: float = 0.1) -> calibration.Calibration:
    rows = [row(shift, LAST, "last", s, gain) for shift in ("flip", "swap") for s in range(5)]
    rows += [row(shift, FIRST, "block1", s, gain) for shift in ("color", "blur") for s in range(5)]
    return calibration.from_rows({"blocks": ["block1", "block2", "last"], "rows": rows})


def test_advice_is_that_of_the_nearest_shifts() -> None:
    found = measured()
    relative = {name: np.array([0.25, 0.25, 1.0]) for name in calibration.CRITERIA}
    told = calibration.advice(found, calibration.features(relative, 3))
    assert (told.choice, told.agreement, told.neighbors) == ("last", 1.0, 5)
    np.testing.assert_allclose(told.gain, 0.1)
    # Each of the 20 rows is advised rightly by shifts other than its own: (20 + 1) / (20 + 2).
    np.testing.assert_allclose(told.confidence, 21 / 22)


def test_advice_that_fails_on_shifts_left_out_has_no_confidence() -> None:
    """Alike profiles with opposite best blocks: the other shift's advice is always wrong."""
    rows = [row("a", LAST, "last", s) for s in range(5)] + [
        row("b", LAST, "block1", s) for s in range(5)
    ]
    for r in rows:
        r["test"] |= {"block1": 0.6, "last": 0.3} if r["shift"] == "b" else {"block1": 0.3}
    found = calibration.from_rows({"blocks": ["block1", "block2", "last"], "rows": rows})
    told = calibration.advice(found, found.features[0])
    assert told.confidence < 0.2


def test_profiles_are_read_at_the_same_depth_whatever_the_number_of_blocks() -> None:
    relative = {name: np.exp([0.0, 1.0, 4.0]) for name in calibration.CRITERIA}
    found = calibration.features(relative, 5)
    np.testing.assert_allclose(found, np.tile([0, 0.5, 1, 2.5, 4], 3))


def test_measured_shifts_that_lack_something_are_refused() -> None:
    blocks = ["block1", "block2", "last"]
    lacking = row("a", LAST, "last", 0)
    del lacking["rgn_clean"], lacking["test"]["all"]
    with pytest.raises(ValueError, match="calibration: row 0 lacks rgn_clean, all"):
        calibration.from_rows({"blocks": blocks, "rows": [lacking]})
    with pytest.raises(ValueError, match="1 shifts; expected two or more"):
        calibration.from_rows({"blocks": blocks, "rows": [row("a", LAST, "last", 0)]})


def test_criteria_that_some_rows_lack_are_left_out() -> None:
    rows = [row("a", LAST, "last", 0), row("b", FIRST, "block1", 0)]
    del rows[1]["snr"], rows[0]["fisher_clean"], rows[0]["fisher"]
    found = calibration.from_rows({"blocks": ["block1", "block2", "last"], "rows": rows})
    assert found.criteria == ("rgn",) and found.features.shape == (2, 3)


@pytest.fixture(scope="module")
def flip() -> tuple[Examples, Examples]:
    """Returns examples with flipped labels, and the same with the network's own."""
    random = np.random.default_rng(5)
    x = random.normal(size=(16, shifted.SIZES[0])).astype(np.float32)
    labels = np.argmax(shifted.logits(x), axis=-1)
    return Examples(x, 2 - labels), Examples(x, labels)


NETWORK = (shifted.apply, shifted.network(), cross_entropy)


@pytest.fixture(scope="module")
def measure() -> Any:
    return surgery.profiler(shifted.apply, cross_entropy, shifted.blocks(), batch_size=8)


def test_recommendations_compare_profiles_with_clean_data(
    flip: Any, measure: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, clean = flip
    monkeypatch.setattr(surgery, "profiler", lambda *a, **k: measure)  # compiled once
    options: Any = {"blocks": shifted.blocks()}
    found = surgery.recommend(*NETWORK, target, source=clean, **options)
    for name in calibration.CRITERIA:
        for of_data in (found.profiles, found.clean):
            np.testing.assert_allclose(of_data[name].max(), 1, rtol=1e-6)
        np.testing.assert_allclose(found.relative[name], found.profiles[name] / found.clean[name])
    assert found.block == found.blocks.names[int(np.argmax(found.relative["rgn"]))]
    assert found.gain is None and found.basis == surgery.BY_RULE
    weak = surgery.recommend(*NETWORK, target, **options)
    assert weak.basis == surgery.NO_CLEAN_DATA and not weak.relative

    told = surgery.recommend(*NETWORK, target, source=clean, calibration=measured(), **options)
    wanted = calibration.advice(measured(), calibration.features(found.relative, 3))
    assert (told.block, told.confidence) == (wanted.choice, wanted.confidence)
    assert "of 20 measured shifts" in told.basis
    with page(tmp_path / "report.png", (8, 3)) as figure:
        figures.report(figure, told)
    assert (tmp_path / "report.png").stat().st_size > 5000


def test_profiles_are_the_criteria_over_their_largest_block(flip: Any, measure: Any) -> None:
    """The Fisher information of the head by hand: outer products of errors and features."""
    params, (target, _) = shifted.network(), flip
    found, x = measure(params, target)["fisher"], target.inputs.astype(float)
    hidden = [x := np.tanh(x @ layer.kernel + layer.bias[None]) for layer in params[:-1]]
    errors = np.exp(shifted.logits(target.inputs).astype(float))
    errors = errors / errors.sum(1, keepdims=True) - np.eye(3)[target.labels]
    # Backwards through the layers: errors in outputs, then in what comes before the tanh.
    squares = []
    for layer, below in zip(params[::-1], (*hidden[::-1], target.inputs), strict=True):
        entries = np.sum((below[:, :, None] * errors[:, None]) ** 2) + np.sum(errors**2)
        squares.append(entries / (layer.kernel.size + layer.bias.size))
        errors = (errors @ layer.kernel.T) * (1 - below**2)
    wanted = np.array(squares[::-1])
    np.testing.assert_allclose(found, wanted / wanted.max(), rtol=1e-4)  # sums of float32


def test_data_that_say_nothing_are_refused(flip: Any) -> None:
    target, _ = flip
    one = Examples(target.inputs[:1], target.labels[:1])
    with pytest.raises(ValueError, match="target has 1 examples; expected two or more"):
        surgery.recommend(*NETWORK, one)
    wrong = target._replace(labels=target.labels + 1)
    with pytest.raises(ValueError, match=r"target.labels\[\d+\]=3; expected 0 to 2"):
        surgery.recommend(*NETWORK, wrong)
