"""Clips against single steps and against numbers, on a pendulum: where each matters."""

from common.aggregates import Results
from common.comparisons import all_of, beats, not_worse
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import CORRELATION, RETURN
from rlhf.human_preferences.tables.pendulum import CONFIG

NOISE = {"rater.rationality": 0.2}
SINGLE = {"clip.length": 1}
SCALED = {"task.goal": "scaled"}
CLIPS, STEPS = "clips, rater who errs", "single steps, rater who errs"
SURE = "single steps, rater who never errs"
COMPARED, TOLD = "scaled reward, comparisons", "scaled reward, targets"
ROWS = (
    (CLIPS, NOISE, ""),
    (STEPS, {**NOISE, **SINGLE}, ""),
    (SURE, SINGLE, ""),
    (COMPARED, SCALED, ""),
    (TOLD, SCALED, "source=targets"),
)


@claim(PAPER, "Section 3.3")
def single_steps_are_worse(results: Results) -> Verdict:
    """Where single steps are ambiguous, comparing clips beats comparing steps."""
    return beats(results[CLIPS, RETURN], results[STEPS, RETURN])


@claim()
def sure_steps_are_not(results: Results) -> Verdict:
    """Where the rater never errs, single steps are no worse than clips of one who does."""
    return not_worse(results[SURE, RETURN], results[CLIPS, RETURN])


@claim(PAPER, "Section 3.3")
def targets_are_worse(results: Results) -> Verdict:
    """Where the scale of the reward varies, comparisons beat targets."""
    return beats(results[COMPARED, RETURN], results[TOLD, RETURN])


@claim()
def rewards_show_it(results: Results) -> Verdict:
    """Learned rewards are closer to what the rater values, in both cases."""
    pairs = ((CLIPS, STEPS), (COMPARED, TOLD))
    return all_of(*(beats(results[a, CORRELATION], results[b, CORRELATION]) for a, b in pairs))


TABLE = Table(
    title="A pendulum from 60 labels: clips, single steps, and clip rewards in numbers",
    source='Christiano et al. (2017), its ablations "no segments" and "target", on a pendulum',
    config=CONFIG,
    cells=tuple(
        Cell(name, column, overrides, metric, variant=variant)
        for name, overrides, variant in ROWS
        for column, metric in ((RETURN, "task_return"), (CORRELATION, "correlation"))
    ),
    seeds=tuple(range(6)),
    headline=("single_steps_are_worse", "targets_are_worse"),
    notes=(
        "No published value: the paper draws curves. Return by the reward of the task, whatever "
        "the rater values; correlation with what the rater values. The rater who errs prefers a "
        "clip with probability sigmoid(0.2 times the difference of their true rewards): one step "
        "differs by some units of reward, a clip of 25 by tens. The scaled reward is that of the "
        "task times 1, upright, to 100, hanging. Targets are clip rewards, regressed on in units "
        "of their standard deviation, from as many clips, with as many updates.",
    ),
    reasons={
        "sure_steps_are_not": "Sixty single steps are few even where no answer is wrong: two seeds "
        "of six end above -250, against five with clips by one who errs, and three of the rewards "
        "have correlations of 0.76 to 0.89, against 0.94 and more.",
        "targets_are_worse": "All six seeds end above -190 with targets: in units of their own "
        "deviation clip rewards of a pendulum of three numbers are regressed well, though they "
        "span a factor of 100. With comparisons four seeds do, and two end at -609 and -1313.",
        "rewards_show_it": "Of the scaled reward the correlation is 0.84 with targets, which are "
        "made of that scale, and 0.80 with comparisons, which have none.",
    },
)
