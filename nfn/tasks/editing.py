"""Editing SIRENs by their weights: the experiment for any editor, and U + gamma body(U)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from common.evaluation import SumCount, sums_over
from common.experiment import Experiment, Metrics
from common.gradients import Loss
from common.steps import TrainState
from common.supervised import take, training
from nfn import encodings, features
from nfn.siren import SirenParams
from nfn.siren_sets import SirenSetSpec
from nfn.symmetry import canonical_siren
from nfn.tasks import sirens
from nfn.tasks.edit_targets import EditSpec, abstract_editing_data, editing_data
from nfn.trunk import Trunk
from nfn.weights import WeightSpace

PyTree = Any


class Editor(NamedTuple):
    """A network that changes weights; weights are params trees with a leading batch axis.

    Attributes:
        init: key -> params.
        apply: (params, weights, statistics, key=None) -> edited weights; with a `key` as in
            training. `statistics` are those of `read` on the training networks.
        space: Layout of what is read.
        read: weights -> the features that get normalized and read.
    """

    init: Callable[[PRNGKeyArray], PyTree]
    apply: Callable[..., SirenParams]
    space: WeightSpace
    read: Callable[[SirenParams], features.Features]


class EditorParams(NamedTuple):
    """The network that reads the weights, and gamma for every tensor that it changes."""

    body: PyTree
    scale: dict[str, Float[Array, ""]]


def residual_editor(
    body: Trunk, *, omega: float, initial_scale: float, canonical: bool = False
) -> Editor:
    """Returns the editor U + gamma body(U), with the symmetry of its body.

    Source: Zhou et al. (2023a), App. D.4: gamma is learned; one gamma per tensor as in the released
    code.

    Args:
        body: A trunk with one channel in and out.
        omega: Frequency of the SIRENs.
        initial_scale: gamma before training.
        canonical: Edit the canonical form of a SIREN, which shows the same image.

    Raises:
        ValueError: If the body writes more than one channel.
    """
    if body.channels != 1:
        raise ValueError(f"the body of an editor writes {body.channels} channels, expected 1")

    def read(weights: SirenParams) -> features.Features:
        if canonical:
            weights = canonical_siren(weights, omega=omega)
        return features.features_from_params(body.space, weights)

    def init(key: PRNGKeyArray) -> EditorParams:
        scale = {tensor.path: jnp.float32(initial_scale) for tensor in body.space.tensors}
        return EditorParams(body.init(key), scale)

    def apply(
        params: EditorParams,
        weights: SirenParams,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> SirenParams:
        x = read(weights)
        change = body.apply(params.body, encodings.normalize(statistics, x), None, key)
        edited = {path: x[path] + params.scale[path] * change[path] for path in x}
        return features.params_from_features(body.space, edited)

    return Editor(init, apply, body.space, read)


def edit_sirens(config: ConfigDict, editor: Editor) -> Experiment:
    """Trains an editor so that the changed SIRENs show the edited images.

    Source: Zhou et al. (2023a), App. D.4: mean square error between the pictures.

    Reads `config.data` (see `sirens.siren_set_spec` and `edit_spec`), `config.optimizer`, sizes of
    batches; the measured errors are mean squares over pixels in the [-1, 1] scale.
    """
    spec, chunk = sirens.siren_set_spec(config.data), config.evaluate_chunk
    space = sirens.siren_space(spec)
    statistics = sirens.statistics_of(editor.read, editor.space, normalize=config.data.normalize)
    num_train = sirens.num_examples(spec)["train"]
    trained = training(config, editor.init, _loss(editor, spec), num_train=num_train)
    measure = partial(_measure, editor, spec=spec, chunk=chunk)

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        measured = measure(state.params, data, "test")
        moved = _measure_permuted(editor, state.params, data, key, space, spec, chunk)
        return {**measured, **moved}

    return Experiment(
        data=lambda: editing_data(spec, edit_spec(config), statistics),
        **trained._asdict(),
        evaluate=lambda state, data, key: measure(state.params, data, "valid"),
        final=final,
        predict=lambda state, data, weights: editor.apply(
            state.params, weights, data["statistics"]
        ),
        abstract_data=lambda: abstract_editing_data(spec, statistics),
        describe=lambda: sirens.describe(spec),
        identity=lambda: sirens.identity(spec),
    )


def edit_spec(config: ConfigDict) -> EditSpec:
    """Returns the edit of `config.data`."""
    return EditSpec(config.data.edit, tuple(config.data.shift), config.data.degrees)


def _errors(weights: SirenParams, target: jax.Array, spec: SirenSetSpec) -> Float[Array, " batch"]:
    return jnp.mean((sirens.renderings(weights, spec) - target) ** 2, axis=(1, 2))


def _loss(editor: Editor, spec: SirenSetSpec) -> Loss:
    """Returns the mean square error of the training networks that the batch points to."""

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        train = take(data["train"], batch["index"])
        edited = editor.apply(params, train["params"], data["statistics"], key)
        return jnp.mean(_errors(edited, train["target"], spec)), {}

    return loss


def _measure(
    editor: Editor, params: PyTree, data: PyTree, part: str, spec: SirenSetSpec, chunk: int
) -> dict[str, SumCount]:
    """Returns the mean square errors of the edited and of the untouched networks of a part."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        edited = editor.apply(params, rows["params"], data["statistics"])
        return {
            f"{part}_mse": _errors(edited, rows["target"], spec),
            f"{part}_do_nothing_mse": _errors(rows["params"], rows["target"], spec),
        }

    return sums_over(values, data[part], chunk=chunk)


def _measure_permuted(
    editor: Editor,
    params: PyTree,
    data: PyTree,
    key: jax.Array,
    space: WeightSpace,
    spec: SirenSetSpec,
    chunk: int,
) -> dict[str, SumCount]:
    """Compares the edited test networks with those whose hidden neurons were in another order."""

    def values(rows: PyTree, key: PRNGKeyArray) -> dict[str, jax.Array]:
        moved = features.permute_networks(key, space, rows["params"])
        after = editor.apply(params, moved, data["statistics"])
        before = editor.apply(params, rows["params"], data["statistics"])
        change = sirens.renderings(after, spec) - sirens.renderings(before, spec)
        return {
            "permuted_test_mse": _errors(after, rows["target"], spec),
            "permuted_change": jnp.mean(change**2, axis=(1, 2)),
        }

    return sums_over(values, data["test"], chunk=chunk, key=key)
