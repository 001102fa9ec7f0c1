"""Cases of `rlhf_vs_torch` in imitation and Stable-Baselines3, in an environment of their own."""

import contextlib
import time
from typing import Any

import numpy as np
import torch  # pyrefly: ignore
from imitation.algorithms import preference_comparisons as pc  # pyrefly: ignore
from imitation.data import rollout  # pyrefly: ignore
from imitation.rewards.reward_nets import BasicRewardNet, RewardEnsemble  # pyrefly: ignore
from imitation.rewards.reward_wrapper import RewardVecEnvWrapper  # pyrefly: ignore
from imitation.util.networks import RunningNorm  # pyrefly: ignore
from imitation.util.util import make_vec_env  # pyrefly: ignore
from stable_baselines3 import PPO  # pyrefly: ignore
from stable_baselines3.common.evaluation import evaluate_policy  # pyrefly: ignore
from timed_cases import Case  # pyrefly: ignore
from torch_cases import serve_torch  # pyrefly: ignore

ENVS, CLIP, PAIRS, BATCH = 8, 25, 256, 32
SOLVED = -250.0
SECONDS = 240.0  # of CPU time: what a whole run may take to its return


def environments(seed: int = 0) -> Any:
    """Eight pendulums."""
    return make_vec_env("Pendulum-v1", rng=np.random.default_rng(seed), n_envs=ENVS)


def reward_net(venv: Any, hidden: tuple[int, ...]) -> Any:
    """A reward model of observation, action and next observation, inputs standardized."""
    spaces = (venv.observation_space, venv.action_space)
    return BasicRewardNet(*spaces, hid_sizes=hidden, normalize_input_layer=RunningNorm)


def policy(venv: Any, net: Any, **settings: Any) -> Any:
    """PPO on a learned reward: 64-64 networks, ten epochs over 2,048 steps."""
    learned = RewardVecEnvWrapper(venv, net.predict_processed)
    numbers = dict(n_steps=2048 // ENVS, n_epochs=10, batch_size=64, gamma=0.97)
    return PPO("MlpPolicy", learned, seed=0, device="cpu", **{**numbers, **settings})


def rl_case() -> Case:
    """Environment steps of PPO on a learned reward."""
    venv = environments()
    ppo = policy(venv, reward_net(venv, (32, 32)))
    steps = 2048
    return Case(lambda: ppo.learn(steps, reset_num_timesteps=False), units=steps)


def labels(venv: Any) -> Any:
    """256 pairs of clips of 25 steps of random actions, with answers."""
    rng = np.random.default_rng(0)
    until = rollout.make_sample_until(min_timesteps=6400, min_episodes=None)
    paths = rollout.rollout(None, venv, until, rng=rng, unwrap=False)
    pairs = pc.RandomFragmenter(rng=rng, warning_threshold=0)(paths, CLIP, PAIRS)
    data = pc.PreferenceDataset()
    data.push(pairs, pc.SyntheticGatherer(rng=rng)(pairs).astype(np.float32))
    return data


def reward_case(members: int, hidden: tuple[int, ...]) -> Case:
    """Optimizer steps of one reward model, or of all members of an ensemble."""
    venv = environments()
    data, rng = labels(venv), np.random.default_rng(1)
    options = dict(batch_size=BATCH, epochs=1, rng=rng)
    if members == 1:
        model = pc.PreferenceModel(reward_net(venv, hidden))
        trainer = pc.BasicRewardTrainer(model, pc.CrossEntropyRewardLoss(), **options)
    else:
        nets = [reward_net(venv, hidden) for _ in range(members)]
        model = pc.PreferenceModel(RewardEnsemble(venv.observation_space, venv.action_space, nets))
        trainer = pc.EnsembleTrainer(model, pc.CrossEntropyRewardLoss(), **options)
    return Case(lambda: trainer.train(data), units=PAIRS // BATCH)


class Reached(Exception):
    """The return that was asked for was reached, or the time for it was over."""


def whole_case() -> Case:
    """The whole method until the true return is -250; how far it came, and how fast, by steps."""

    def run() -> dict[str, Any]:
        venv, rng = environments(), np.random.default_rng(2)
        net = reward_net(venv, (32, 32))
        ppo = dict(ent_coef=0.01, learning_rate=2e-3, clip_range=0.1, gae_lambda=0.95)
        agent = PPO(
            "MlpPolicy",
            venv,
            **dict(n_steps=2048 // ENVS, n_epochs=10, batch_size=64, gamma=0.97, seed=0, **ppo),
            device="cpu",
        )
        generator = pc.AgentTrainer(agent, net, venv, exploration_frac=0.05, rng=rng)
        trainer = pc.BasicRewardTrainer(
            pc.PreferenceModel(net), pc.CrossEntropyRewardLoss(), epochs=3, rng=rng
        )
        learner = pc.PreferenceComparisons(
            generator,
            net,
            num_iterations=60,
            fragmenter=pc.RandomFragmenter(rng=rng, warning_threshold=0),
            preference_gatherer=pc.SyntheticGatherer(rng=rng),
            reward_trainer=trainer,
            fragment_length=100,
            initial_epoch_multiplier=4,
        )
        curve: list[dict[str, float]] = []
        judged = [0.0, 0.0]  # wall and CPU time of evaluations, which do not count
        start, start_cpu = time.perf_counter(), time.process_time()

        def look(iteration: int) -> None:
            before, before_cpu = time.perf_counter(), time.process_time()
            wall, cpu = before - start - judged[0], before_cpu - start_cpu - judged[1]
            mean, _ = evaluate_policy(agent.policy, venv, n_eval_episodes=16)
            steps = float(agent.num_timesteps)
            curve.append({"steps": steps, "wall": wall, "cpu": cpu, "return": float(mean)})
            judged[0] += time.perf_counter() - before
            judged[1] += time.process_time() - before_cpu
            if mean > SOLVED or cpu > SECONDS:
                raise Reached

        with contextlib.suppress(Reached):
            learner.train(total_timesteps=400_000, total_comparisons=200, callback=look)
        return {"curve": curve, "solved": curve[-1]["return"] > SOLVED}

    return Case(run)


if __name__ == "__main__":
    import importlib.metadata as about

    serve_torch(
        {
            "rl": rl_case,
            "reward 1": lambda: reward_case(1, (32, 32)),
            "reward 3": lambda: reward_case(3, (64, 64)),
            "whole": whole_case,
        },
        imitation=about.version("imitation"),
        stable_baselines3=about.version("stable-baselines3"),
        torch_threads=torch.get_num_threads(),
    )
