"""Editors of weights: U + gamma NFN(U), and the MLP on flat weights that knows no symmetry."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import Network, from_linen
from nfn import encodings, features
from nfn.equivariant.models import MLP, permute_networks
from nfn.equivariant.stack import StackParams, StackSpec, init_stack, stack, stack_space
from nfn.siren import SirenParams
from nfn.symmetry import canonical_siren
from nfn.weights import Params, WeightSpace

PyTree = Any
EQUIVARIANT_KINDS = ("np", "hnp", "pt")
KINDS = (*EQUIVARIANT_KINDS, "mlp", "mlp_aug")


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


class EditorParams(NamedTuple):
    """The network that reads the weights, and gamma for every tensor that it changes."""

    body: PyTree
    scale: dict[str, Float[Array, ""]]


def editor(space: WeightSpace, spec: EditorSpec, *, omega: float) -> Network:
    """Returns `apply(params, weights, statistics, key=None) -> edited weights`.

    Source: Zhou et al. (2023), App. D.4: U + gamma NFN(U), gamma learned; one gamma per tensor as
    in the released code. Weights are params trees with a leading batch axis. The equivariant kinds
    commute with permutations of hidden neurons. With a `key`, mlp_aug first permutes the hidden
    neurons of every network, and edits that.

    Args:
        space: The weights, all neurons permutable.
        spec: Sizes.
        omega: Frequency of the SIRENs.

    Raises:
        ValueError: If `spec.kind` is unknown.
    """
    if spec.kind not in KINDS:
        raise ValueError(f"config.model.kind={spec.kind!r}: expected one of {', '.join(KINDS)}")
    body = _vector_body(space, spec) if spec.kind.startswith("mlp") else _stack_body(space, spec)
    inner = stack_space(space, spec.kind)

    def init(key: PRNGKeyArray) -> EditorParams:
        scale = {tensor.path: jnp.float32(spec.initial_scale) for tensor in space.tensors}
        return EditorParams(body.init(key), scale)

    def apply(
        params: EditorParams,
        weights: SirenParams,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> SirenParams:
        if key is not None and spec.kind == "mlp_aug":
            weights = permute_networks(key, space, weights)
        x = inputs(space, spec, weights, omega=omega)
        change = body.apply(params.body, encodings.normalize(statistics, x))
        edited = {path: x[path] + params.scale[path] * change[path] for path in x}
        return features.params_from_features(inner, edited)

    return Network(init, apply)


def inputs(
    space: WeightSpace, spec: EditorSpec, weights: SirenParams, *, omega: float
) -> features.Features:
    """Returns the weights that are changed, in the layout of the editor's layers."""
    if spec.canonical:
        weights = canonical_siren(weights, omega=omega)
    return features.features_from_params(stack_space(space, spec.kind), weights)


def _stack_body(space: WeightSpace, spec: EditorSpec) -> Network:
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

    def init(key: PRNGKeyArray) -> StackParams:
        return init_stack(key, space=space, spec=sizes)

    def apply(params: StackParams, x: features.Features) -> features.Features:
        return stack(params, x, space=space, spec=sizes)

    return Network(init, apply)


def _vector_body(space: WeightSpace, spec: EditorSpec) -> Network:
    """Returns the baseline: flat weights in, ReLU layers, flat changes out."""
    network = from_linen(
        MLP(spec.mlp_widths, space.size), jax.ShapeDtypeStruct((1, space.size), jnp.float32)
    )

    def apply(params: Params, x: features.Features) -> features.Features:
        flat = network.apply(params, features.vector_from_features(space, x))
        return features.features_from_vector(space, flat)

    return Network(network.init, apply)
