"""Editors of weights: U + gamma NFN(U), and the MLP on flat weights that knows no symmetry."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from common.networks import from_linen
from nfn import encodings, features
from nfn.readers import MLP
from nfn.siren import SirenParams
from nfn.stack import StackSpec, linear_trunk
from nfn.tasks.editing import Editor, EditorParams, residual_editor
from nfn.trunk import Trunk
from nfn.weights import Params, WeightSpace


class EditorSpec(NamedTuple):
    """Sizes of an editor.

    Attributes:
        kind: np, hnp, pt (equivariant or pointwise layers), mlp, mlp_aug (flat weights).
        canonical: Edit the canonical form of a SIREN, which shows the same image.
        channels: Channels per weight of every hidden equivariant layer.
        num_layers: Number of hidden equivariant layers; one more layer gives the output.
        frequencies: Gaussian Fourier frequencies per weight; 0: the weights themselves.
        fourier_scale: Standard deviation of these frequencies.
        io_bands: Bands of the input/output code of np and pt; 0: no code.
        io_max_frequency: Twice the highest scale of that code.
        mlp_widths: Hidden widths of mlp and mlp_aug.
        initial_scale: gamma before training, one number per tensor.
        dtype: Compute type of the equivariant layers, "float32" or "bfloat16".
        remat: Recompute layers in the backward pass instead of keeping their outputs.
    """

    kind: str
    canonical: bool
    channels: int
    num_layers: int
    frequencies: int
    fourier_scale: float
    io_bands: int
    io_max_frequency: float
    mlp_widths: tuple[int, ...]
    initial_scale: float
    dtype: str
    remat: bool


def editor(space: WeightSpace, spec: EditorSpec, *, omega: float) -> Editor:
    """Returns the editor of `spec`.

    Source: Zhou et al. (2023a), App. D.4 and Table 16.

    The equivariant kinds commute with permutations of hidden neurons. With a `key`, mlp_aug first
    permutes the hidden neurons of every network, and edits that.

    Args:
        space: The weights, all neurons permutable.
        spec: Sizes.
        omega: Frequency of the SIRENs.
    """
    network = residual_editor(
        _mlp(space, spec) if spec.kind.startswith("mlp") else _stack(space, spec),
        omega=omega,
        initial_scale=spec.initial_scale,
        canonical=spec.canonical,
    )

    def augmented(
        params: EditorParams,
        weights: SirenParams,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> SirenParams:
        if key is not None:
            weights = features.permute_networks(key, space, weights)
        return network.apply(params, weights, statistics)

    return network._replace(apply=augmented) if spec.kind == "mlp_aug" else network


def _stack(space: WeightSpace, spec: EditorSpec) -> Trunk:
    """Returns NFN: Fourier features, code, layers with ReLU and a linear layer to 1 channel."""
    uses_io = spec.kind != "hnp" and spec.io_bands > 0
    sizes = StackSpec(
        kind=spec.kind,
        widths=(spec.channels,) * spec.num_layers + (1,),
        frequencies=spec.frequencies,
        fourier_scale=spec.fourier_scale,
        io="sinusoidal" if uses_io else "none",
        io_bands=spec.io_bands if uses_io else 0,
        io_max_frequency=spec.io_max_frequency if uses_io else 0.0,
        linear_output=True,
        dtype=spec.dtype,
        remat=spec.remat,
    )
    return linear_trunk(space, sizes)


def _mlp(space: WeightSpace, spec: EditorSpec) -> Trunk:
    """Returns the baseline: flat weights in, ReLU layers, flat changes out."""
    network = from_linen(
        MLP(spec.mlp_widths, space.size), jax.ShapeDtypeStruct((1, space.size), jnp.float32)
    )

    def apply(
        params: Params, x: features.Features, extra: None = None, key: PRNGKeyArray | None = None
    ) -> features.Features:
        del extra, key
        flat = network.apply(params, features.vector_from_features(space, x))
        return features.features_from_vector(space, flat)

    return Trunk(space, 1, network.init, apply)
