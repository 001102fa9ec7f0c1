"""One small experiment of every paper, and a chain, for runs that move between devices.

Batches divide into the eight parts in whose order a deterministic run sums its gradients.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_ZOO = {
    "data.channels": "(1, 4, 4)",
    "data.zoo_steps": 30,
    "data.zoo_batch_size": 16,
    "data.runs": 60,
    "data.piece": 60,
    "data.train_runs": 36,
    "data.valid_runs": 12,
    "data.test_runs": 12,
    "batch_size": 16,
    "evaluate_chunk": 4,
}
_IMAGES = {"data.size": 7, "data.num_train": 80, "data.num_test": 40, "evaluate_chunk": 40}
_PREFERENCES = {
    "task.horizon": 20,
    "learner.envs": 8,
    "learner.steps": 20,
    "learner.hidden": "(4,)",
    "labels.total": 6,
    "labels.capacity": 8,
    "labels.slots": 2,
    "clip.length": 3,
    "reward.hidden": "(4,)",
    "reward.batch_size": 8,
    "reward.steps": 2,
    "reward.rounds": 1,
    "evaluation.episodes": 2,
}


class Small(NamedTuple):
    """A config and the fields that make it small.

    Attributes:
        spec: What follows --config=.
        fields: Path -> value.
    """

    spec: str
    fields: Mapping[str, Any]


PAPERS: Mapping[str, Small] = {
    "nfn.equivariant": Small(
        "nfn/equivariant/configs/generalization.py:cpu",
        {**_ZOO, "model.widths": "(4, 3)", "model.head_widths": "(16,)"},
    ),
    "nfn.transformer": Small(
        "nfn/transformer/configs/generalization.py:cpu",
        {
            **_ZOO,
            "model.channels": 8,
            "model.num_heads": 2,
            "model.num_blocks": 1,
            "model.ff_ratio": 1,
            "model.frequencies": 2,
            "head.head_widths": "(16,)",
        },
    ),
    "landscape.sam_rank": Small(
        "landscape/sam_rank/configs/two_layer.py:cpu", {"batch_size": 8, "gradient.rho": 0.4}
    ),
    "landscape.sharpening": Small(
        "landscape/sharpening/configs/regularization.py:cpu",
        {
            **_IMAGES,
            "batch_size": 16,
            "model.width": 8,
            "watch.samples": 10,
            "watch.chunk": 10,
            "watch.pairs": 4,
        },
    ),
    "landscape.visualizing": Small(
        "landscape/visualizing/configs/depth.py:cpu",
        {
            **_IMAGES,
            "batch_size": 16,
            "model.depth": 4,
            "model.width": 4,
            "surface.planes": 2,
            "surface.points": 5,
            "surface.line_points": 5,
            "surface.images": 40,
            "surface.chunk": 20,
            "surface.products": 2,
        },
    ),
    "rlhf.human_preferences": Small("rlhf/human_preferences/configs/control.py:cpu", _PREFERENCES),
    "rlhf.human_preferences of a chain": Small(  # discrete actions
        "rlhf/human_preferences/configs/control.py:cpu,task=chain", _PREFERENCES
    ),
    "finetune.surgical": Small(
        "finetune/surgical/configs/source.py:cpu",
        {
            "batch_size": 16,
            "evaluate_chunk": 50,
            "data.num_train": 200,
            "data.num_source": 80,
            "data.num_pool": 120,
            "data.num_test": 50,
            "model.widths": "(4,8,8)",
            "model.blocks": "(1,1,1)",
        },
    ),
    "sciml.boon": Small(
        "sciml/boon/configs/single_step.py:cpu,pde=heat,kind=boon",
        {
            "batch_size": 16,
            "evaluate_chunk": 10,
            "optimizer.decay_every": 10,
            "data.num_train": 40,
            "data.num_test": 10,
            "data.points": 16,
            "data.scales": "(0.5,)",
            "model.modes": "(4,)",
            "model.width": 8,
            "model.projection": 8,
        },
    ),
    "sciml.probconserv": Small(
        "sciml/probconserv/configs/neural_process.py:cpu",
        {
            "batch_size": 8,
            "evaluate_chunk": 2,
            "data.num_train": 16,
            "data.num_valid": 4,
            "data.num_test": 4,
            "data.points": 21,
            "data.context_grid": "(3,4)",
            "data.target_grid": "(3,4)",
            "model.width": 8,
            "model.latent": 8,
            "model.heads": 2,
            "model.num_samples": 3,
        },
    ),
}
EVERY = {"seed_group": 1, "steps_per_call": 1, "log_every": 1, "eval_every": 0}


def train(name: str, *, steps: int, **changes: Any) -> list[str]:
    """Returns the words after `lab` that train the experiment of a paper for so many steps.

    Args:
        name: Of the paper.
        steps: Of training; saved at the end, and where it is stopped.
        changes: Further fields of the config.
    """
    small = PAPERS[name]
    fields = {**EVERY, "num_steps": steps, **small.fields, **changes}
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    return ["train", f"--config={small.spec}", *overrides]


def at(words: list[str], workdir: Path) -> list[str]:
    """Returns the same command for another folder of runs."""
    return [*words, f"--workdir={workdir}"]
