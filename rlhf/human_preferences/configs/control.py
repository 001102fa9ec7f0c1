"""Control tasks learned from comparisons of clips (Christiano et al. 2017, Sec. 3.1.1, App. A.1).

    lab train --config=rlhf/human_preferences/configs/control.py:cpu
    lab train --config=rlhf/human_preferences/configs/control.py:cpu --config.labels.total=20
    lab train --config=rlhf/human_preferences/configs/control.py:cpu,source=true
    lab table rlhf.human_preferences pendulum --preset=cpu
    lab compile --config=rlhf/human_preferences/configs/control.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; a pendulum, 768,000 steps of each of six seeds as one program; measured time
and result in results/pendulum.cpu.md), paper (its numbers of labels, its networks and settings, on
our environments), pod (TPU v5e 16x16, environments x seeds; compiled ahead of time only,
tests/test_pods.py). `source` is where the reward comes from: a rater's answers, the clip rewards
that a rater tells, the true reward, or nothing at all.
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "task": ("pendulum", "spin", "cart_pole", "chain", "reacher"),
    "source": ("preferences", "targets", "true", "random"),
}
ALGORITHMS = ("trpo",)
ALLOWED = {
    "reward.source": CHOICES["source"],
    "learner.activation": ("tanh", "relu"),
    "labels.schedule": ("hyperbolic", "exponential", "constant"),
    "queries.score": ("variance", "logit", "vote", "information"),
}
# Of the return of an episode: above it a run counts as solved.
SOLVED = {
    "pendulum": -250.0,
    "spin": 1_000.0,
    "cart_pole": 150.0,
    "chain": 20.0,
    "reacher": -10.0,
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    chosen = choices(arg, CHOICES)
    preset, source = chosen["preset"], chosen["source"]
    config = ConfigDict()
    config.experiment = "rlhf.human_preferences:control"
    config.num_steps, config.steps_per_call, config.log_every = 500, 20, 20
    task = dict(name=chosen["task"], goal="task", horizon=0, leak=False)
    if chosen["task"] == "spin":
        task |= dict(name="pendulum", goal="spin")
    config.task = ConfigDict(task)
    config.learner = ConfigDict(
        dict(
            algorithm="trpo",  # App. A.1
            envs=40,  # 8,000 steps a batch: rl-teacher
            steps=200,
            discount=0.995,  # App. A.1
            decay=0.97,  # App. A.1
            # App. A.1: only when learning from the predictor.
            entropy=0.01 if source in ("preferences", "targets") else 0.0,
            kl_limit=0.01,
            value_rate=1e-3,
            hidden=(64, 64),
            activation="tanh",
            log_std=-0.5,
        )
    )
    config.labels = ConfigDict(
        dict(
            total=700,  # Sec. 3.1.1
            initial_share=0.25,  # App. A.1
            schedule="hyperbolic",  # App. A.1
            constant_share=0.3,  # of the run: 2e6 frames in the paper, of runs of unstated length
            slots=16,  # the most that a step asks for
            capacity=1_400,
        )
    )
    config.clip = ConfigDict(dict(length=15))  # 1.5 s at 10 frames a second
    config.reward = _reward(source)
    config.queries = ConfigDict(dict(score="variance", at_random=False))  # Sec. 2.2.4
    # See rlhf/raters.py; rationality 0: none, the better clip wins.
    rater = dict(rationality=0.0, discount=1.0, mistake=0.0, skip=-1e9, margin=0.0)
    config.rater = ConfigDict(rater)
    config.evaluation = ConfigDict(dict(episodes=32, solved=SOLVED[chosen["task"]]))
    if preset != "paper":
        _small(config, chosen["task"])
    if preset == "pod":
        config.learner.envs, config.seed_group = 1_024, 16
        config.mesh = ConfigDict(dict(data=16, seeds=16))
    return config


def _reward(source: str) -> ConfigDict:
    """Returns the section of the reward model."""
    return ConfigDict(
        dict(
            source=source,
            members=3,  # App. A
            used_members=3,
            hidden=(64, 64),  # App. A.1
            dropout=0.0,
            learning_rate=1e-3,  # rl-teacher
            batch_size=64,  # rl-teacher
            steps=4,  # minibatches between two adjustments of the l2 coefficient
            rounds=3,
            coefficient=0.01,
            factor=0.1,
            error=0.1,  # Sec. 2.2.3
            memory=0.0,
            target_deviation=1.0,  # App. A.1
            is_mapped=False,
        )
    )


def _small(config: ConfigDict, task: str) -> None:
    """Makes a config one of minutes: the same claims, from fewer steps and labels."""
    config.steps_per_call, config.log_every, config.seed_group = 5, 5, 6
    config.reward.batch_size, config.reward.rounds = 32, 2
    config.learner.envs, config.learner.steps, config.num_steps = 32, 200, 50
    config.learner.discount, config.learner.decay, config.learner.kl_limit = 0.98, 0.95, 0.015
    config.labels.total, config.labels.capacity, config.clip.length = 60, 200, 25
    if task == "cart_pole":
        config.learner.envs, config.num_steps = 16, 40
    elif task == "chain":
        config.learner.envs, config.learner.steps, config.clip.length = 16, 50, 10
        config.num_steps, config.learner.kl_limit = 60, 0.05
    if task in ("cart_pole", "chain") and config.learner.entropy:
        # At 0.01 a wrong early reward may be followed for good: tables trap and leak.
        config.learner.entropy = 0.05
    if task == "reacher":
        config.learner.steps, config.clip.length, config.num_steps = 50, 10, 80
        config.learner.kl_limit = 0.03


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config.learner, "config.learner", "envs", "steps")
    require_at_least_one(config.labels, "config.labels", "slots", "capacity")
    require_at_least_one(config.clip, "config.clip", "length")
    names = ("members", "batch_size", "steps", "rounds")
    require_at_least_one(config.reward, "config.reward", *names)
    require_at_least_one(config.evaluation, "config.evaluation", "episodes")
    labels, reward, learner = config.labels, config.reward, config.learner
    for ok, field, value, allowed in (
        (learner.algorithm in ALGORITHMS, "learner.algorithm", learner.algorithm, "trpo"),
        (labels.total >= 0, "labels.total", labels.total, "a budget of at least 0 labels"),
        (
            0 <= labels.initial_share <= 1,
            "labels.initial_share",
            labels.initial_share,
            "a share from 0 to 1",
        ),
        (
            labels.capacity >= labels.slots,
            "labels.capacity",
            labels.capacity,
            f"at least labels.slots={labels.slots}",
        ),
        (
            1 <= reward.used_members <= reward.members,
            "reward.used_members",
            reward.used_members,
            f"1 to reward.members={reward.members}",
        ),
    ):
        if not ok:
            raise ValueError(f"config.{field}={value!r}: expected {allowed}")
