"""A game of images as data: points learned from comparisons against points given."""

from typing import Any

from common.aggregates import Results
from common.comparisons import above, at_least_times, beats
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import RETURN, SHOWN, SOLVED

CONFIG = "rlhf/human_preferences/configs/game.py"
TRUE, MAIN = "true reward", "500 labels"
OF_POLICY = {RETURN: "return", SOLVED: "solved"}
OF_REWARD = {"agreement": "agreement", SHOWN: "shown_percent"}


def row(name: str, columns: dict[str, Any], variant: str) -> tuple[Cell, ...]:
    """Returns the cells of a row."""
    return tuple(
        Cell(name, column, {}, metric, variant=variant) for column, metric in columns.items()
    )


@claim(PAPER, "Section 3.1.2")
def labels_teach_the_game(results: Results) -> Verdict:
    """Labels lead to more broken bricks than lost balls."""
    return above(results[MAIN, RETURN], 0.0)


@claim(PAPER, "Section 3.1.2, of Breakout")
def the_true_reward_is_better(results: Results) -> Verdict:
    """They do not match the true reward."""
    return beats(results[TRUE, RETURN], results[MAIN, RETURN])


@claim()
def half_of_the_points(results: Results) -> Verdict:
    """They lead to over half of its points."""
    return at_least_times(results[MAIN, RETURN], results[TRUE, RETURN], 0.5)


TABLE = Table(
    title="Bricks: a game of images learned from comparisons of clips",
    source="Christiano et al. (2017), its Atari games, on a game of our own",
    config=CONFIG,
    cells=(
        *row(TRUE, OF_POLICY, "source=true"),
        *row(MAIN, {**OF_POLICY, **OF_REWARD}, ""),
    ),
    seeds=tuple(range(5)),
    headline=("labels_teach_the_game",),
    reasons={
        "the_true_reward_is_better": "Every brick is rewarded at once, and the board shows where "
        "it was: 500 comparisons tell a small reward model of the board as much as the points do. "
        "In the paper's Breakout it is longer from an action to its point.",
    },
    notes=(
        "No published value for this game. Points of an episode of 200 steps: bricks less lost "
        f"balls, of 32 fresh episodes; {SOLVED}: share of seeds above 0. Learning is A2C with "
        "16 environments and an update every 5 steps, by Adam at 1.5e-3, chosen by five pilot "
        "seeds of the true reward that are not among these; the reward model, a convolution with "
        "batch normalization and dropout, sees the board alone, is fitted for 200 epochs to the "
        "first half of the labels and to one label for every ten steps after that. Clips have 10 "
        "steps; those with as many points are equally good.",
    ),
)
