"""Reinforcement learning from human feedback: rewards that are learned from comparisons of clips.

Everything is a pure function over arrays, so that environments, policy, reward model, queries and
rater are one compiled program, and seeds are an axis of it. Environments of our own with a fixed
horizon and poses to draw (`envs`), rollouts (`rollouts`), policies and value functions
(`policies`, `distributions`, `moments`), and three algorithms of one form (`algorithms`): trust
regions (`trpo`), synchronous advantage actor-critic (`a2c`) and clipped ratios (`ppo`), on
advantages that know the end of the recording from the end of the task (`gae`).

The reward is an argument of an update and never part of a rollout: the true one of the task, or
one learned from comparisons.

From clips of rollouts (`segments`) pairs are chosen (`queries`) as often as a schedule says
(`schedule`), raters answer (`raters`), labels are kept in a ring (`buffer`), and an ensemble of
reward models (`reward_model`, `ensemble`, `l2_controller`) learns what explains the answers
(`preference`), of standard size for the policy (`normalizer`).
"""
