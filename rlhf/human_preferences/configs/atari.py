"""Seven Atari games learned from comparisons (Christiano et al. 2017, Sec. 3.1.2, App. A.2).

    pip install 'jax-paper-lab[atari]'
    lab train --config=rlhf/human_preferences/configs/atari.py:cpu
    lab train --config=rlhf/human_preferences/configs/atari.py:cpu,source=true
    lab table rlhf.human_preferences atari --preset=cpu

Presets: cpu (2 cores; frames of 42 x 42, smaller networks and fewer steps; measured time and result
in results/atari.cpu.md), paper (its frames, networks, numbers of labels and settings; not run: 50
million steps are a day of a GPU and 16 cores, and 3,000 labels of stacked frames 4 GB). The
emulator is under the GPL and is never needed by anything else. The simulated rater sees points
clipped to ±1 and the end of a game; the score is blanked for everybody.
"""

from ml_collections import ConfigDict

from common.config import choices
from rlhf.human_preferences import sections
from rlhf.human_preferences.configs import game

__all__ = ["ALLOWED", "CHOICES", "check", "get_config"]

CHOICES = {
    "preset": ("cpu", "paper"),
    "task": (
        "space_invaders",
        "beam_rider",
        "breakout",
        "enduro",
        "pong",
        "qbert",
        "seaquest",
    ),
    "source": sections.SOURCES,
    "rl": ("a2c", "ppo"),
}
ALLOWED = game.ALLOWED
check = sections.check


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    config = game.get_config(f"paper,source={chosen['source']},rl={chosen['rl']}")
    config.experiment = "rlhf.human_preferences:atari"
    config.task = ConfigDict(
        dict(name=chosen["task"], goal="clipped", horizon=1_000, leak=False, side=84)
    )
    # Mnih et al. (2015) for the policy, App. A.2 for the reward.
    config.learner.layers = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    config.reward.layers = ((16, 7, 3), (16, 5, 2), (16, 3, 1), (16, 3, 1))
    config.evaluation.episodes = 4
    if chosen["preset"] == "cpu":
        _small(config)
    return config


def _small(config: ConfigDict) -> None:
    """Makes a config one of minutes: smaller frames and networks, few steps and labels."""
    config.num_steps, config.steps_per_call, config.log_every = 60, 5, 5  # 96,000 steps
    config.task.side, config.task.horizon = 42, 500
    config.learner.layers, config.learner.hidden = ((16, 8, 4), (32, 4, 2)), (128,)
    config.reward.layers = ((8, 8, 4), (16, 4, 2))
    config.labels.total, config.labels.initial_share, config.labels.slots = 200, 0.25, 8
    config.labels.capacity, config.labels.constant_share = 200, 0.3
    config.reward.sample, config.reward.batch_size, config.reward.steps = 20, 16, 2
    config.reward.pretraining_epochs = 10
    config.evaluation.episodes = 8
    if config.learner.algorithm == "a2c":
        config.learner.a2c.learning_rate, config.learner.a2c.decay_steps = 2e-3, 1e6
