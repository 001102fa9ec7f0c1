"""Ways to adapt a network under one budget of epochs, all of them as data for the same program.

    strategy = strategies.tune(params, blocks, "block1", epochs=15)
    strategy = strategies.named("auto_rgn", params, blocks, epochs=15)

A strategy says which leaves may change, what multiplies the learning rate of every leaf in each
epoch, before which epochs the optimizer starts anew, and which penalty is added. Criteria that
are computed in training (Auto-RGN, Auto-SNR) give multipliers of their own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from common.errors import nearest
from common.subtrees import join
from finetune import criteria, lora
from finetune.blocks import ALL, LAST, Blocks, tuned_mask
from finetune.tuning import Combine, Loss

PyTree = Any
# (loss, params, batches [n, batch, ...], examples) -> multipliers, a tree with a number a leaf
Multiply: TypeAlias = Callable[[Loss, PyTree, PyTree], PyTree]
Begin: TypeAlias = Callable[[PRNGKeyArray, PyTree], PyTree]  # (key, params) -> tuned


class Strategy(NamedTuple):
    """A way to adapt.

    Attributes:
        name: What it is called.
        mask: A tree of True and False: leaves that may change.
        multipliers: A tree of arrays [epochs] at these leaves, None at the others.
        renewed: For every epoch, whether the optimizer starts anew before it.
        l1: Of the penalty l1 |theta - theta_0|_1.
        l2: Of the penalty l2 / 2 |theta - theta_0|^2.
        criterion: Gives multipliers at the start of every epoch, which these multiply.
        begin: Makes the tuned tree of a change of variables; None: it is the leaves themselves.
        combine: (tuned, frozen) -> params, of such a change; frozen are all leaves then.
    """

    name: str
    mask: PyTree
    multipliers: PyTree
    renewed: np.ndarray
    l1: float = 0.0
    l2: float = 0.0
    criterion: Multiply | None = None
    begin: Begin | None = None
    combine: Combine = join

    @property
    def epochs(self) -> int:
        """Returns the budget."""
        return len(self.renewed)

    @property
    def is_fixed(self) -> bool:
        """Returns whether the same leaves are tuned in every epoch, at one rate."""
        is_one = all(bool(np.all(np.asarray(m) == 1)) for m in jax.tree.leaves(self.multipliers))
        return is_one and self.criterion is None and self.begin is None


def tune(params: PyTree, blocks: Blocks, tuned: str | Sequence[str], *, epochs: int) -> Strategy:
    """Returns the strategy that tunes a block, several, or "all" at one learning rate.

    Source: Lee et al. (2023), Sec. 2: surgical fine-tuning of a subset S of the layers.

    Raises:
        ValueError: If there is no such block, or no epoch.
    """
    name = tuned if isinstance(tuned, str) else "+".join(tuned)
    mask = tuned_mask(params, blocks, tuned)
    return scheduled(name, mask, [(mask, 1.0)], [epochs])


def scheduled(
    name: str,
    mask: PyTree,
    stages: Sequence[tuple[PyTree, float]],
    lengths: Sequence[int],
    **options: Any,
) -> Strategy:
    """Returns a strategy of stages: in each a mask of what is tuned, and a factor of the rate.

    The optimizer starts anew before every stage. A stage of length 0 is left out.

    Args:
        name: What it is called.
        mask: Leaves that may change in some stage.
        stages: Their masks and factors.
        lengths: Their epochs.
        **options: More fields of `Strategy`.

    Raises:
        ValueError: If there is no epoch.
    """
    if sum(lengths) < 1 or min(lengths) < 0:
        raise ValueError(f"epochs={sum(lengths)}; expected at least 1")
    rows: list[PyTree] = []
    renewed: list[bool] = []
    for (tuned, factor), length in zip(stages, lengths, strict=True):
        row = jax.tree.map(
            lambda may, now, f=factor: (f if now else 0.0) if may else None, mask, tuned
        )
        rows += [row] * length
        renewed += [True] + [False] * (length - 1) if length else []
    multipliers = jax.tree.map(lambda *values: np.asarray(values, np.float32), *rows)
    renewed[0] = False  # it has just started
    return Strategy(name, mask, multipliers, np.asarray(renewed), **options)


def gradual(params: PyTree, blocks: Blocks, *, epochs: int, from_last: bool = False) -> Strategy:
    """Returns gradual unfreezing: one more block every epochs / blocks, until all are tuned.

    Source: Lee et al. (2023), Sec. 3: gradual unfreezing, first to last and last to first.

    In the last stage all leaves are tuned, those in no block too.
    """
    order = blocks.names[::-1] if from_last else blocks.names
    masks = [tuned_mask(params, blocks, order[: i + 1]) for i in range(len(order) - 1)]
    masks.append(tuned_mask(params, blocks, ALL))
    edges = np.round(np.linspace(0, epochs, len(order) + 1)).astype(int)
    name = "gradual, last to first" if from_last else "gradual, first to last"
    return scheduled(name, masks[-1], [(mask, 1.0) for mask in masks], np.diff(edges).tolist())


def towards_start(
    params: PyTree, blocks: Blocks, *, epochs: int, l1: float = 0.0, l2: float = 0.0
) -> Strategy:
    """Returns full tuning with a penalty on the distance from the start: L1-SP or L2-SP.

    Source: Li et al. (2018): L2-SP; Lee et al. (2023): L1 regularization towards the start.

    Raises:
        ValueError: If no strength is positive.
    """
    if min(l1, l2) < 0 or l1 + l2 <= 0:
        raise ValueError(f"l1={l1}, l2={l2}; expected strengths >= 0, one of them > 0")
    mask = tuned_mask(params, blocks, ALL)
    name = "+".join([word for word, strength in (("L1-SP", l1), ("L2-SP", l2)) if strength])
    return scheduled(name, mask, [(mask, 1.0)], [epochs], l1=l1, l2=l2)


def probe_and_tune(
    params: PyTree,
    blocks: Blocks,
    *,
    epochs: int,
    probe_epochs: int | None = None,
    factor: float = 0.1,
    probe_first: bool = True,
    probe: str | Sequence[str] = LAST,
) -> Strategy:
    """Returns LP-FT, the last layer and then all; or FT-LP, the other way round.

    Source: Kumar et al. (2022): LP-FT.

    Args:
        params: The network.
        blocks: Its groups.
        epochs: Of both together.
        probe_epochs: Of the last layer; None: half of them.
        factor: Of the learning rate while all is tuned.
        probe_first: LP-FT, not FT-LP.
        probe: The last layer, or other blocks.
    """
    first = epochs // 2 if probe_epochs is None else probe_epochs
    mask = tuned_mask(params, blocks, ALL)
    stages = [(tuned_mask(params, blocks, probe), 1.0), (mask, factor)]
    lengths = [first, epochs - first]
    if not probe_first:
        stages, lengths = stages[::-1], lengths[::-1]
    return scheduled("LP-FT" if probe_first else "FT-LP", mask, stages, lengths)


def auto_rgn(
    params: PyTree,
    blocks: Blocks,
    *,
    epochs: int,
    granularity: str = "tensor",
    floor: float = criteria.FLOOR,
    left_out: str = criteria.NORMS,
) -> Strategy:
    """Returns Auto-RGN: before every epoch rates become lr |g| / |theta|, over the maximum.

    Source: Lee et al. (2023): Auto-RGN, with a new Adam in every epoch as in the released code.

    Args:
        params: The network.
        blocks: Its groups.
        epochs: The budget.
        granularity: What a norm is of: "tensor", as released, "block", or "matrix".
        floor: Least root mean square of a tensor (`criteria.relative_gradient_norm`).
        left_out: Expression for leaves that rest; not of "block".
    """

    def multiply(loss: Loss, params: PyTree, batches: PyTree) -> PyTree:
        def ratio(grads: PyTree, params: PyTree, blocks: Blocks) -> criteria.Profile:
            return criteria.relative_gradient_norm(grads, params, blocks, floor=floor)

        profile = criteria.averaged(ratio, loss, params, batches, blocks)
        options = {"granularity": granularity, "left_out": left_out}
        return criteria.rates_of(profile, params, blocks, **options)

    mask = _by_criterion(params, blocks, granularity, left_out)
    name = "Auto-RGN" if granularity == "tensor" else f"Auto-RGN by {granularity}"
    found = scheduled(name, mask, [(mask, 1.0)], [epochs], criterion=multiply)
    return found._replace(renewed=np.arange(epochs) > 0)


def auto_snr(
    params: PyTree,
    blocks: Blocks,
    *,
    epochs: int,
    snr: str = "official",
    threshold: float | None = None,
    left_out: str = criteria.NORMS,
) -> Strategy:
    """Returns Auto-SNR: before every epoch tensors under a threshold of signal to noise freeze.

    Source: Lee et al. (2023): Auto-SNR, with a new Adam in every epoch as in the released code.

    Args:
        params: The network.
        blocks: Its groups.
        epochs: The budget.
        snr: "official": variance over output channels, as released, not normalized;
            "per_example": over examples, as the paper has it, over its maximum.
        threshold: None: 0.95 of "official", 0.1 of "per_example".
        left_out: Expression for leaves that rest.

    Raises:
        ValueError: If there is no such form.
    """
    if snr not in ("official", "per_example"):
        raise ValueError(f"snr={snr!r}; expected official or per_example")
    official = snr == "official"
    level = threshold if threshold is not None else (0.95 if official else 0.1)

    def multiply(loss: Loss, params: PyTree, batches: PyTree) -> PyTree:
        if official:
            profile = criteria.averaged(criteria.output_axis_snr, loss, params, batches, blocks)
            values = profile.tensors
        else:
            examples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)
            moments = criteria.example_moments(loss, params, examples)
            values = criteria.normalized(criteria.example_snr(moments, blocks).tensors)
        is_used = criteria.counted(params, left_out=left_out)
        return jax.tree.map(
            lambda v, used: jnp.where(used & (v >= level), 1.0, 0.0), values, is_used
        )

    mask = _by_criterion(params, blocks, "tensor", left_out)
    name = "Auto-SNR" if official else "Auto-SNR by example"
    found = scheduled(name, mask, [(mask, 1.0)], [epochs], criterion=multiply)
    return found._replace(renewed=np.arange(epochs) > 0)


def low_rank(
    params: PyTree,
    blocks: Blocks,
    tuned: str | Sequence[str],
    *,
    epochs: int,
    rank: int = 4,
    alpha: float = 1.0,
) -> Strategy:
    """Returns the tuning of low-rank changes of the matrices of some blocks (`finetune.lora`).

    Source: Hu et al. (2021), by block.
    """
    mask = tuned_mask(params, blocks, tuned)

    def begin(key: PRNGKeyArray, params: PyTree) -> PyTree:
        return lora.init_lora(key, params, mask, rank=rank)

    def combine(factors: PyTree, params: PyTree) -> PyTree:
        return lora.merged(factors, params, alpha=alpha)

    words = tuned if isinstance(tuned, str) else "+".join(tuned)
    one = jax.tree.map(lambda flag: np.ones(epochs, np.float32) if flag else None, mask)
    name, renewed = f"rank {rank} in {words}", np.zeros(epochs, bool)
    return Strategy(name, mask, one, renewed, begin=begin, combine=combine)


NAMED: dict[str, Callable[..., Strategy]] = {
    "gradual_first": gradual,
    "gradual_last": lambda *args, **kw: gradual(*args, from_last=True, **kw),
    "l1_sp": lambda *args, l1=1e-4, **kw: towards_start(*args, l1=l1, **kw),
    "l2_sp": lambda *args, l2=1e-2, **kw: towards_start(*args, l2=l2, **kw),
    "lp_ft": probe_and_tune,
    "ft_lp": lambda *args, **kw: probe_and_tune(*args, probe_first=False, **kw),
    "auto_rgn": auto_rgn,
    "auto_snr": auto_snr,
    "linear_probe": lambda params, blocks, **kw: tune(params, blocks, LAST, **kw),
}


def named(name: str, params: PyTree, blocks: Blocks, *, epochs: int, **options: Any) -> Strategy:
    """Returns a strategy by name: one of `NAMED`, a block, "block1+block2", "all", "lora:block1".

    Args:
        name: Its name.
        params: The network.
        blocks: Its groups.
        epochs: The budget.
        **options: Of the function of this strategy.

    Raises:
        ValueError: If there is no such strategy.
    """
    if name in NAMED:
        return NAMED[name](params, blocks, epochs=epochs, **options)
    kind, _, words = name.rpartition(":")
    tuned = words.split("+")
    known = {*blocks.names, ALL}
    if kind not in ("", "lora") or not known.issuperset(tuned):
        allowed = (*blocks.names, ALL, *NAMED)
        raise ValueError(
            f"no strategy {name!r}{nearest(name, allowed)}; expected one of {', '.join(allowed)}, "
            'blocks joined by "+", or "lora:" and blocks'
        )
    make = low_rank if kind else tune
    return make(params, blocks, tuned if len(tuned) > 1 else words, epochs=epochs, **options)


def as_data(strategy: Strategy, params: PyTree, blocks: Blocks) -> Strategy:
    """Returns the same strategy with every leaf free to change and multipliers of 0 where it rests.

    All strategies of a budget then have trees of one shape, and share one compiled program. They
    pay for it with gradients and moments of leaves that rest.

    Raises:
        ValueError: If the strategy tunes something else than leaves.
    """
    if strategy.begin is not None:
        raise ValueError(f"as_data: {strategy.name} tunes factors; expected leaves of the network")
    mask = tuned_mask(params, blocks, ALL)
    rest = np.zeros(strategy.epochs, np.float32)
    multipliers = jax.tree.map(
        lambda m, may: (rest if m is None else m) if may else None,
        strategy.multipliers,
        mask,
        is_leaf=lambda x: x is None,
    )
    return strategy._replace(mask=mask, multipliers=multipliers)


def _by_criterion(params: PyTree, blocks: Blocks, granularity: str, left_out: str) -> PyTree:
    """Returns the mask of the leaves that a criterion may give a rate."""
    criteria.check_granularity(granularity)
    if granularity == "block":
        return tuned_mask(params, blocks, blocks.names)
    used = criteria.counted(params, left_out=left_out, only_matrices=granularity == "matrix")
    return jax.tree.map(lambda u, free: u and free, used, tuned_mask(params, blocks, ALL))
