"""Sections of configs: what all experiments on preferences have, with the paper's numbers."""

from typing import Any

from ml_collections import ConfigDict

from common.config import require_at_least_one

SOURCES = ("preferences", "targets", "true", "random")
ALGORITHMS = ("trpo", "a2c", "ppo")
ALLOWED = {
    "reward.source": SOURCES,
    "learner.activation": ("tanh", "relu"),
    "labels.schedule": ("hyperbolic", "exponential", "constant"),
    "queries.score": ("variance", "logit", "vote", "information"),
}


def learner(rl: str, source: str, **numbers: Any) -> ConfigDict:
    """Returns the section of reinforcement learning, by an algorithm of `ALGORITHMS`.

    Args:
        rl: The algorithm.
        source: Of the reward: there is an entropy bonus where it is learned.
        **numbers: In place of those here, or beside them.
    """
    of_all = dict(
        algorithm=rl,
        envs=40,  # 8,000 steps a batch: rl-teacher
        steps=200,
        discount=0.995,  # App. A.1
        decay=0.97,  # App. A.1
        # App. A.1: only when learning from the predictor.
        entropy=0.01 if source in ("preferences", "targets") else 0.0,
        hidden=(64, 64),
        activation="tanh",
        log_std=-0.5,
    )
    own: dict[str, dict[str, Any]] = {
        "trpo": dict(kl_limit=0.01, value_rate=1e-3),
        # App. A.2, there called Adam: n = 5 steps between updates; the rate falls to 0 after so
        # many steps of the environment.
        "a2c": dict(unroll=5, a2c=dict(optimizer="rmsprop", learning_rate=7e-4, decay_steps=8e7)),
        "ppo": dict(ppo=dict(learning_rate=3e-4, clip=0.2, epochs=10, steps=16)),
    }
    return ConfigDict(of_all | own[rl] | numbers)


def reward(source: str, **numbers: Any) -> ConfigDict:
    """Returns the section of the reward model; `numbers` in place of those here, or beside them."""
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
        | numbers
    )


def rater() -> ConfigDict:
    """Returns the section of the simulated rater, who never errs; see rlhf/raters.py."""
    # Rationality 0: none, the better clip wins.
    return ConfigDict(dict(rationality=0.0, discount=1.0, mistake=0.0, skip=-1e9, margin=0.0))


def check(config: ConfigDict) -> None:
    """Checks the values that only these experiments can judge.

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
    share, algorithm, unroll = labels.initial_share, learner.algorithm, learner.get("unroll", 0)
    sample, epochs = reward.get("sample", 0), reward.get("pretraining_epochs", 0)
    allowed = ", ".join(ALGORITHMS)
    parts = config.logical_shards if config.deterministic else 1
    whole = f"a multiple of logical_shards={parts} (deterministic=True)"
    for ok, field, value, wanted in (
        (learner.envs % parts == 0, "learner.envs", learner.envs, whole),
        (reward.batch_size % parts == 0, "reward.batch_size", reward.batch_size, whole),
        (algorithm in ALGORITHMS, "learner.algorithm", algorithm, f"one of {allowed}"),
        (unroll >= 0, "learner.unroll", unroll, "at least 0 steps"),
        (labels.total >= 0, "labels.total", labels.total, "a budget of at least 0 labels"),
        (0 <= share <= 1, "labels.initial_share", share, "a share from 0 to 1"),
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
        (sample >= 0, "reward.sample", sample, "at least 0 labels"),
        (epochs >= 0, "reward.pretraining_epochs", epochs, "at least 0 epochs"),
    ):
        if not ok:
            raise ValueError(f"config.{field}={value!r}: expected {wanted}")
