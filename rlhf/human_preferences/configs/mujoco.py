"""Learn the paper's own tasks in MuJoCo from comparisons (Christiano et al., Sec. 3.1.1 and 3.2).

    pip install 'jax-paper-lab[rl]'
    lab train --config=rlhf/human_preferences/configs/mujoco.py:cpu
    lab train --config=rlhf/human_preferences/configs/mujoco.py:cpu --config.labels.total=350
    lab train --config=rlhf/human_preferences/configs/mujoco.py:cpu,task=steady_run,source=true
    lab train --config=rlhf/human_preferences/configs/mujoco.py:paper,task=backflip
    lab table rlhf.human_preferences mujoco --preset=cpu

Presets: cpu (2 cores; 320,000 steps of a robot of each of three seeds; measured time and result in
results/mujoco.cpu.md), paper (its numbers of labels, networks and settings; 5 million steps, since
it does not state how many, not run). `task` is one of the eight robots, or behavior that none of
them is rewarded for: `steady_run` is a half-cheetah at 2 m/s and no faster, `backflip` a hopper
that turns over backwards. `source` is where the reward comes from, as in control.py.
"""

from ml_collections import ConfigDict

from common.config import choices
from rlhf.human_preferences.configs import control

CHOICES = {
    "preset": ("cpu", "paper"),
    "task": (
        "half_cheetah",
        "hopper",
        "walker2d",
        "swimmer",
        "ant",
        "reacher",
        "inverted_pendulum",
        "inverted_double_pendulum",
        "steady_run",
        "backflip",
    ),
    "source": control.CHOICES["source"],
}
ALLOWED = control.ALLOWED
# Steps of a clip of 1.5 s, at the frames per second at which rl-teacher shows each robot.
CLIPS = {
    "half_cheetah": 30,
    "hopper": 60,
    "walker2d": 45,
    "swimmer": 60,
    "ant": 30,
    "mujoco_reacher": 15,
    "inverted_pendulum": 15,
    "inverted_double_pendulum": 15,
}
GOALS = {"steady_run": ("half_cheetah", "speed"), "backflip": ("hopper", "backflip")}
NAMES = {"reacher": "mujoco_reacher"}  # `reacher` is the one of our own environments
# Of the return of an episode: above it a run counts as solved.
SOLVED = {
    "half_cheetah": 1_000.0,
    "hopper": 1_000.0,
    "walker2d": 0.0,
    "swimmer": 30.0,
    "ant": 0.0,
    "reacher": -5.0,
    "inverted_pendulum": -0.1,
    "inverted_double_pendulum": 350.0,
    "steady_run": -500.0,
    "backflip": 5.0,
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    task, source = chosen["task"], chosen["source"]
    config = control.get_config(f"paper,source={source}")
    config.experiment = "rlhf.human_preferences:mujoco"
    name, goal = GOALS.get(task, (NAMES.get(task, task), "task"))
    config.task.name, config.task.goal = name, goal
    config.evaluation.solved = SOLVED[task]
    config.clip.length = CLIPS[name]
    # 8,000 steps a batch as in rl-teacher, of whole episodes where they are short.
    config.learner.envs, config.learner.steps = 40, 200
    config.num_steps = 625  # 5 million steps; not stated
    config.steps_per_call, config.log_every = 25, 25
    if task == "swimmer" and config.learner.entropy:
        config.learner.entropy = 0.001  # App. A.1
    if task == "backflip":
        config.labels.total, config.labels.capacity = 900, 900  # Sec. 3.2
    if chosen["preset"] == "cpu":
        _small(config, name)
    return config


def _small(config: ConfigDict, name: str) -> None:
    """Makes a config one of minutes: fewer steps, and smaller batches of them."""
    config.seed_group, config.steps_per_call, config.log_every = 3, 5, 5
    config.labels.capacity, config.labels.slots = 700, 25
    config.reward.rounds, config.reward.sample = 2, 200
    config.learner.envs, config.learner.steps, config.num_steps = 32, 125, 80
    config.learner.kl_limit = 0.02
    config.evaluation.episodes = 8
    if config.learner.entropy:
        # With 0.01 the policy stays as random as it began: advantages are standardized here.
        config.learner.entropy = 0.001
    if name == "mujoco_reacher":
        config.learner.steps, config.num_steps = 50, 125  # 200,000 steps
        # Chosen by the true reward on a seed of no table; with the paper's it hardly learned.
        config.learner.discount, config.learner.decay = 0.9, 0.95
        config.learner.kl_limit = 0.05
        config.evaluation.episodes = 32
    elif name in ("inverted_pendulum", "inverted_double_pendulum"):
        config.learner.steps, config.num_steps = 25, 100  # 80,000 steps
        config.evaluation.episodes = 32


check = control.check
