"""How far raters agree with each other, and with answers that are known."""

import sqlite3
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

CATEGORIES = ("a", "b", "tie")  # who cannot tell says nothing


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Returns how much more two raters agree than by chance; nan where chance explains all.

    Source: Cohen (1960).

    Args:
        first: Answers of one rater.
        second: Those of the other to the same pairs.
    """
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} and {len(second)} answers: expected those to the same pairs"
        )
    if not len(first):
        return float("nan")
    one, two = np.asarray(first), np.asarray(second)
    agreed = float(np.mean(one == two))
    chance = sum(float(np.mean(one == c) * np.mean(two == c)) for c in {*first, *second})
    return (agreed - chance) / (1 - chance) if chance < 1 else float("nan")


def fleiss_kappa(counts: Float[np.ndarray, "pairs categories"]) -> float:
    """Returns how much more several raters agree than by chance; nan where chance explains all.

    Source: Fleiss (1971); a pair may have any number of raters, of two and more.

    Args:
        counts: How many raters gave each answer to each pair; pairs of one rater say nothing.
    """
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return float("nan")
    raters = counts.sum(axis=1)
    agreed = np.mean((np.sum(counts**2, axis=1) - raters) / (raters * (raters - 1)))
    share = counts.sum(axis=0) / counts.sum()
    chance = np.sum(share**2)
    return float((agreed - chance) / (1 - chance)) if chance < 1 else float("nan")


def agreement(store: sqlite3.Connection) -> tuple[float, int]:
    """Returns Fleiss' kappa over the pairs that several people answered, and how many these are."""
    rows = store.execute(
        "SELECT pair, choice FROM labels WHERE undone IS NULL AND choice != 'none' AND pair IN "
        "(SELECT id FROM pairs WHERE answers > 1)"
    ).fetchall()
    places: dict[int, int] = {}
    for row in rows:
        places.setdefault(row["pair"], len(places))
    counts = np.zeros((len(places), len(CATEGORIES)))
    for row in rows:
        counts[places[row["pair"]], CATEGORIES.index(row["choice"])] += 1
    return fleiss_kappa(counts), int(np.sum(counts.sum(axis=1) >= 2))


def checks(store: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """Returns of every rater how many pairs of known answer they answered so, and of how many.

    Who says "equally good" or "can't tell" of one has not answered it so.
    """
    rows = store.execute(
        "SELECT rater, sum(choice = expected) AS right, count(*) AS number FROM labels "
        "JOIN pairs ON pairs.id = pair WHERE undone IS NULL AND source = 'check' GROUP BY rater"
    )
    return {row["rater"]: (row["right"], row["number"]) for row in rows}
