"""A cart-pole as data: what an episode that ends on a fall tells a learner without any reward."""

from common.aggregates import Results
from common.comparisons import all_of, at_least_times, beats
from common.tables import Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import RETURN, SOLVED
from rlhf.human_preferences.tables.pendulum import CONFIG, MAIN, TRUE, row

RANDOM, LEAK = "random reward", "random reward, episodes end on a fall"
CALM = f"{MAIN}, entropy bonus 0.01"
RULES = "task=cart_pole"


@claim()
def a_leak_teaches_without_a_reward(results: Results) -> Verdict:
    """A reward of random numbers teaches where episodes end on a fall, and only there."""
    leak, random, true = (results[name, RETURN] for name in (LEAK, RANDOM, TRUE))
    return all_of(beats(leak, random), at_least_times(true, random, 2.0))


@claim(PAPER, "Section 2.2.1")
def entropy_bonus_is_what_to_tune(results: Results) -> Verdict:
    """More seeds are solved with the larger entropy bonus, which a moving reward asks for."""
    calm, tuned = (results[name, SOLVED] for name in (CALM, MAIN))
    return at_least_times(tuned, calm, 1.0)


@claim()
def labels_teach_without_a_leak(results: Results) -> Verdict:
    """Sixty labels give over 90 % of the true reward's return, and no episode ends early."""
    return at_least_times(results[MAIN, RETURN], results[TRUE, RETURN], 0.9)


TABLE = Table(
    title="Cart-pole: learning with and without an end that tells",
    source="Christiano et al. (2017), appendix A: no episodes of variable length",
    config=CONFIG,
    cells=(
        *row(TRUE, {}, variant=f"{RULES},source=true", learns=False),
        *row(MAIN, {}, variant=RULES),
        *row(CALM, {"learner.entropy": 0.01}, variant=RULES),
        *row(RANDOM, {}, variant=f"{RULES},source=random", learns=False),
        *row(LEAK, {"task.leak": True}, variant=f"{RULES},source=random", learns=False),
    ),
    seeds=tuple(range(6)),
    headline=("a_leak_teaches_without_a_reward",),
    notes=(
        "No published value: the paper removes such ends and does not show what they do. The "
        "random reward is drawn anew at every step, uniform on 0 to 1. The entropy bonus is 0.05 "
        "unless a row says so, as in table trap. All policies are judged on "
        f"episodes of 200 steps, whatever falls; {SOLVED}: share of seeds with a return above 150.",
    ),
    reasons={
        "entropy_bonus_is_what_to_tune": "Five seeds of six are solved with either bonus. The "
        "sixth falls at once with either, and on these falls its reward has a correlation of 0.69 "
        "and 0.42 with the true one at the end.",
        "labels_teach_without_a_leak": "One seed of six falls at once and stays there; the other "
        "five come to 184 to 200, and the median of all to 195 of 200.",
    },
)
