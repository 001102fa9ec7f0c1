"""Measured shifts: what profiles looked like, which block was best, and how good advice was.

    calibration = read()                                   # the committed file
    told = advice(calibration, features(relative, 4, calibration.criteria))
    told.choice, told.gain, told.confidence

The file `calibration.json` has one row for each shift and seed: profiles of target and of clean
data by block, and test scores after tuning each block, and all. A shift never
advises on itself: confidence is from shifts left out, in turn, with all their seeds.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

FILE = Path(__file__).with_name("calibration.json")
NEIGHBORS = 5
CRITERIA = ("rgn", "snr", "fisher")
ALL = "all"
LEVEL = 0.005  # advice is good if it scores this much less than tuning everything, or better


class Calibration(NamedTuple):
    """Measured shifts.

    Attributes:
        blocks: Their names, in the order of the forward pass.
        criteria: What was measured of them.
        shifts: Of every row.
        features: Of every row, as `features` gives them.
        scores: Test scores of every row, after tuning each block and after tuning all.
    """

    blocks: tuple[str, ...]
    criteria: tuple[str, ...]
    shifts: tuple[str, ...]
    features: Float[np.ndarray, "rows features"]
    scores: Float[np.ndarray, "rows choices"]

    @property
    def choices(self) -> tuple[str, ...]:
        """Returns the blocks, and "all"."""
        return (*self.blocks, ALL)


class Advice(NamedTuple):
    """What the nearest shifts say.

    Attributes:
        choice: A block, or "all".
        gain: Mean score over tuning everything there.
        agreement: Share of them for which the choice is level with tuning everything, or better.
        confidence: How often advice of as much agreement was good, of shifts left out.
        neighbors: How many there are.
    """

    choice: str
    gain: float
    agreement: float
    confidence: float
    neighbors: int


def read(path: Path = FILE) -> Calibration:
    """Returns the measured shifts of a file.

    Raises:
        ValueError: If there is no such file, or it is not what `from_rows` takes.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected measured shifts as JSON")
    return from_rows(json.loads(path.read_text()), str(path))


def from_rows(data: Mapping[str, Any], place: str = "calibration") -> Calibration:
    """Returns the measured shifts of {"blocks", "rows"}.

    A row has "shift"; "rgn", a list by block, and that of clean data, "rgn_clean"; "test", scores
    by block and "all". "snr" and "fisher" are used where all rows have them.

    Raises:
        ValueError: If there are fewer than two shifts, or a row lacks something.
    """
    blocks, found, scores = tuple(data["blocks"]), [], []
    names = tuple(
        name for name in CRITERIA if name == CRITERIA[0] or all(name in row for row in data["rows"])
    )
    for number, row in enumerate(data["rows"]):
        wanted = {"shift", "test", *names, *(f"{name}_clean" for name in names)}
        lacking = sorted(wanted - set(row)) + sorted({*blocks, ALL} - set(row.get("test", {})))
        if lacking:
            raise ValueError(f"{place}: row {number} lacks {', '.join(lacking)}")
        relative = {
            name: _over_largest(row[name]) / np.maximum(_over_largest(row[f"{name}_clean"]), 1e-6)
            for name in names
        }
        found.append(features(relative, len(blocks), names))
        scores.append([row["test"][name] for name in (*blocks, ALL)])
    shifts = tuple(row["shift"] for row in data["rows"])
    if len(set(shifts)) < 2:
        raise ValueError(f"{place}: {len(set(shifts))} shifts; expected two or more")
    return Calibration(blocks, names, shifts, np.array(found), np.array(scores, float))


def features(
    relative: Mapping[str, Float[np.ndarray, " blocks"]],
    size: int,
    names: Sequence[str] = CRITERIA,
) -> Float[np.ndarray, " features"]:
    """Returns logarithms of relative profiles, read at `size` depths from the first to the last."""
    depths = np.linspace(0, 1, size)

    def read_at(values: np.ndarray) -> np.ndarray:
        return np.interp(depths, np.linspace(0, 1, len(values)), np.log(np.maximum(values, 1e-6)))

    return np.concatenate([read_at(np.asarray(relative[name], float)) for name in names])


def advice(calibration: Calibration, of: Float[np.ndarray, " features"]) -> Advice:
    """Returns the choice with the best mean score among the nearest shifts, with its confidence."""
    told = nearest_advice(calibration, of)
    shifts = np.array(calibration.shifts)
    good: list[bool] = []
    for number, shift in enumerate(calibration.shifts):
        others = subset(calibration, shifts != shift)
        tried = nearest_advice(others, calibration.features[number])
        if tried.agreement >= told.agreement:
            scores = dict(zip(calibration.choices, calibration.scores[number], strict=True))
            good.append(scores[tried.choice] >= scores[ALL] - LEVEL)
    # Laplace's rule: no advice is sure, and one that was never tried is even.
    return told._replace(confidence=(sum(good) + 1) / (len(good) + 2))


def nearest_advice(calibration: Calibration, of: Float[np.ndarray, " features"]) -> Advice:
    """Returns `advice` without a confidence (NaN)."""
    scale = calibration.features.std(0) + 1e-6
    away = np.linalg.norm((calibration.features - of[None]) / scale[None], axis=1)
    nearest = np.argsort(away, kind="stable")[:NEIGHBORS]
    over_all = calibration.scores[nearest] - calibration.scores[nearest][:, -1:]
    best = int(np.argmax(over_all.mean(0)))
    agreement = float(np.mean(over_all[:, best] >= -LEVEL))
    gain = float(over_all[:, best].mean())
    return Advice(calibration.choices[best], gain, agreement, float("nan"), len(nearest))


def subset(calibration: Calibration, rows: np.ndarray) -> Calibration:
    """Returns some rows of the measured shifts."""
    shifts = tuple(s for s, kept in zip(calibration.shifts, rows, strict=True) if kept)
    return calibration._replace(
        shifts=shifts, features=calibration.features[rows], scores=calibration.scores[rows]
    )


def _over_largest(values: Any) -> np.ndarray:
    found = np.asarray(values, float)
    return found / found.max()
