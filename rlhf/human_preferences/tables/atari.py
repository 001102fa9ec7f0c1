"""An Atari game as data: a policy learned from comparisons of clips whose score is blanked."""

from typing import Any

from common.aggregates import Results
from common.comparisons import at_least_times
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import CORRELATION, SHOWN

MAIN, RANDOM = "200 labels", "random play"
SCORE, CLIPPED = "score", "points clipped to ±1"
EVALUATED: dict[str, Any] = {"eval_every": 20}
RANDOM_PLAY = "rlhf.human_preferences.random_play:random_play"
OF_POLICY = {SCORE: "task_return", CLIPPED: "return"}
OF_REWARD = {CORRELATION: "correlation", "agreement": "agreement", SHOWN: "shown_percent"}


@claim(PAPER, "Section 3.1.2")
def labels_beat_random_play(results: Results) -> Verdict:
    """By its true score the policy from 200 labels is at least 1.3 times as good as random play."""
    return at_least_times(results[MAIN, SCORE], results[RANDOM, SCORE], 1.3)


TABLE = Table(
    title="Space Invaders: a policy learned from comparisons of clips, score blanked",
    source="Christiano et al. (2017), one of its seven games",
    config="rlhf/human_preferences/configs/atari.py",
    cells=(
        *(Cell(MAIN, name, EVALUATED, metric) for name, metric in OF_POLICY.items()),
        *(Cell(MAIN, name, EVALUATED, metric) for name, metric in OF_REWARD.items()),
        *(Cell(RANDOM, name, {}, metric, run=RANDOM_PLAY) for name, metric in OF_POLICY.items()),
    ),
    seeds=(0,),
    headline=("labels_beat_random_play",),
    notes=(
        "No published value: the paper draws curves, of 50 million steps; these are 96,000. Score "
        "in 500 steps (33 s of play), mean of 8 plays that begin anew; frames of 42 x 42 and "
        "smaller networks than the paper's. Agreement counts pairs that the rater calls equally "
        "good as missed, which are many.",
    ),
)
