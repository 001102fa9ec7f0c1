"""A game of images learned from comparisons (Christiano et al. 2017, Sec. 3.1.2, App. A.2).

    lab train --config=rlhf/human_preferences/configs/game.py:cpu
    lab train --config=rlhf/human_preferences/configs/game.py:cpu,source=true
    lab table rlhf.human_preferences game --preset=cpu
    lab compile --config=rlhf/human_preferences/configs/game.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/game.cpu.md), paper (its numbers of
labels and settings; the board has 10 x 10 cells, so kernels of 3 x 3 stand for those of frames of
84 x 84), pod (TPU v5e 16x16, environments x seeds; compiled ahead of time only,
tests/test_pods.py). The rater sees points: +1 for a brick, -1 for a lost ball, and calls clips
with as many equally good.
"""

from ml_collections import ConfigDict

from common.config import choices
from rlhf.human_preferences import sections
from rlhf.human_preferences.sections import check

__all__ = ["ALLOWED", "CHOICES", "check", "get_config"]

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "task": ("bricks",),
    "source": sections.SOURCES,
    "rl": ("a2c", "ppo"),
}
ALLOWED = {**sections.ALLOWED, "reward.norm": ("none", "batch", "group")}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    preset, source = chosen["preset"], chosen["source"]
    config = ConfigDict()
    config.experiment = "rlhf.human_preferences:game"
    config.num_steps, config.steps_per_call, config.log_every = 31_250, 50, 50  # 50M frames
    config.task = ConfigDict(dict(name=chosen["task"], goal="task", horizon=0, leak=False))
    config.learner = sections.learner(
        chosen["rl"],
        source,
        envs=16,  # App. A.2
        steps=100,
        discount=0.99,  # App. A.2
        decay=1.0,
        entropy=0.01,  # App. A.2
        layers=((32, 3, 1), (64, 3, 1), (64, 3, 1)),  # Mnih et al. (2015) have 8, 4 and 3
        hidden=(512,),
    )
    if chosen["rl"] == "ppo":
        config.learner.decay = 0.95
    config.labels = ConfigDict(
        dict(
            total=5_500,  # Sec. 3.1.2
            initial_share=1 / 11,  # 500: App. A
            schedule="hyperbolic",  # App. A.2
            constant_share=0.1,  # 5e6 of 5e7 frames
            slots=20,  # the most that a step asks for
            capacity=3_000,  # App. A.2
        )
    )
    config.clip = ConfigDict(dict(length=25))  # App. A.2
    config.reward = sections.reward(
        source,
        layers=((16, 3, 1),) * 4,  # App. A.2, of kernels 7, 5, 3 and 3
        hidden=(64,),  # App. A.2
        dropout=0.5,  # App. A.2
        norm="batch",  # App. A.2
        batch_size=32,
        steps=5,  # of 32 labels: one for every ten of 1,600 steps, App. A.2
        rounds=1,
        pretraining_epochs=200,  # App. A
        sample=100,
        target_deviation=0.05,  # App. A.2
    )
    config.queries = ConfigDict(dict(score="variance", at_random=False))  # Sec. 2.2.4
    config.rater = sections.rater()
    config.evaluation = ConfigDict(dict(episodes=32, solved=0.0))
    if preset != "paper":
        _small(config)
    if preset == "pod":
        config.learner.envs, config.seed_group = 1_024, 16
        config.mesh = ConfigDict(dict(data=16, seeds=16))
    return config


def _small(config: ConfigDict) -> None:
    """Makes the config one of minutes: the same claims, from fewer steps and smaller networks."""
    config.num_steps, config.steps_per_call, config.log_every, config.seed_group = 120, 10, 10, 5
    config.learner.layers, config.learner.hidden = ((16, 3, 1),), (64,)
    config.labels.total, config.labels.initial_share = 500, 0.5
    config.clip.length = 10
    config.reward.layers = ((16, 4, 2),)
    config.reward.sample = 60
    # That of the true reward of random play: settings for true rewards carry over, App. A.2.
    config.reward.target_deviation = 0.3
    if config.learner.algorithm == "a2c":
        # In 200,000 steps RMSProp at such rates loses its entropy in some seeds, Adam does not.
        config.learner.a2c.optimizer, config.learner.a2c.learning_rate = "adam", 1.5e-3
        config.learner.a2c.decay_steps = 5e5
