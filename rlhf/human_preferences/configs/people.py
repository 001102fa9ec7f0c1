"""Tasks that a person teaches, by comparing clips (Christiano et al. 2017, Sec. 3.1, App. B).

    lab train --config=rlhf/human_preferences/configs/people.py:cpu,task=spin
    lab train --config=rlhf/human_preferences/configs/people.py:cpu,task=bricks
    lab label RUN    (the folder that the first command names; in a second terminal)

Presets: cpu (2 cores; 60 labels, five minutes of a person; 200 of a game, a quarter of an hour),
paper (its numbers of labels: 700 in an hour, 5,500 of a game in five). Games are shown as images:
`bricks` is our own, `space_invaders` needs the extra `atari`. Training waits for answers,
`people.ahead` steps ahead of them at most; rlhf/labelling/README.md is a tour.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from rlhf.human_preferences.configs import atari, control, game

GAMES = {"bricks": game, "space_invaders": atari}  # shown as images
CHOICES = {
    "preset": ("cpu", "paper"),
    "task": ("spin", "pendulum", "cart_pole", "reacher", *GAMES),
}
ALLOWED = {name: some for name, some in control.ALLOWED.items() if name != "reward.source"}
GENERAL = (
    "Choose the clip in which better things happen, and judge only what you see. If both are "
    'equally good say so; "can\'t tell" is for clips that really confuse you.'
)
# App. B, in our words, of the tasks that are there; the spin is our own.
INSTRUCTIONS = {
    "spin": "Make it spin: the better clip is the one in which the rod turns more, clockwise. "
    "Turning the other way is worse than hanging still.",
    "pendulum": "Make it stand: the better clip is the one in which the rod is nearer to upright. "
    "Many clips will look alike: say so.",
    "cart_pole": "Keep the pole up: the better clip is the one in which it stays nearer to "
    "upright, and the cart nearer to the middle. Steady beats swinging.",
    "reacher": "Bring the tip of the arm to the target. Staying at a middle distance beats being "
    "near at first and far away later.",
    "bricks": "Break bricks: the better clip is the one in which more of them break and fewer "
    "balls are lost at the bottom. A ball that is missed is worse than no brick.",
    "space_invaders": "Shoot down the invaders: the better clip is the one in which more of them "
    "are hit. Losing the ship is worse than hitting nothing.",
}
TITLES = {
    "spin": "A pendulum that spins",
    "pendulum": "A pendulum that stands",
    "cart_pole": "A pole on a cart",
    "reacher": "An arm and a target",
    "bricks": "A ball, a paddle and bricks",
    "space_invaders": "Space Invaders",
}
FRAMES_PER_SECOND = {"cpu": 20.0, "paper": 10.0}  # App. A.1: clips of 1.5 s
GAME_SECONDS = 5 / 3  # of a clip, App. A.2


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,task=...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    task = chosen["task"]
    config = GAMES.get(task, control).get_config(f"{chosen['preset']},task={task}")
    config.experiment = "rlhf.human_preferences:people"
    if task in GAMES and chosen["preset"] == "cpu":
        config.labels.total, config.labels.initial_share = 200, 0.25
        config.labels.capacity = 400  # 200 of an older run too
    config.seed_group, config.steps_per_call, config.log_every = 1, 1, 1
    config.checkpoint_every = 5  # steps after it are made again, from the same answers
    config.people = ConfigDict(
        dict(
            title=TITLES[task],
            instruction=f"{INSTRUCTIONS[task]} {GENERAL}",
            fps=FRAMES_PER_SECOND[chosen["preset"]],
            ahead=4,  # steps that training may be ahead of the answers; 0: it never waits
            undo_seconds=3.0,  # before training takes an answer
            check_share=0.05,  # of pairs of known answer, beside those that are learned from
            second_share=0.1,  # of pairs that two people are asked
            labels="",  # a store or lines of JSON to begin from
        )
    )
    if task in GAMES:
        config.people.fps = config.clip.length / GAME_SECONDS
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    control.check(config)
    people = config.people
    require_at_least_one(config, "config", "checkpoint_every")
    norm, norms = config.reward.get("norm", "none"), game.ALLOWED["reward.norm"]  # of images
    for ok, field, allowed in (
        (config.reward.source == "preferences", "reward.source", "preferences: people compare"),
        (norm in norms, "reward.norm", f"one of {', '.join(norms)}"),
        (config.steps_per_call == 1, "steps_per_call", "1: people are asked after every step"),
        (config.seed_group == 1, "seed_group", "1: people teach one learner"),
        (people.fps > 0, "people.fps", "more than 0 frames a second"),
        (people.ahead >= 0, "people.ahead", "at least 0 steps"),
        (people.undo_seconds >= 0, "people.undo_seconds", "at least 0 seconds"),
        (0 <= people.check_share <= 1, "people.check_share", "a share from 0 to 1"),
        (0 <= people.second_share <= 1, "people.second_share", "a share from 0 to 1"),
    ):
        if not ok:
            section, _, name = field.rpartition(".")
            value = (config[section] if section else config)[name]
            raise ValueError(f"config.{field}={value!r}: expected {allowed}")
