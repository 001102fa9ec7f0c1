"""The networks of INR2ARRAY: SIREN -> array of vectors -> square of SIRENs."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import Network
from nfn import encodings, features, pooling
from nfn.probes import activation_channels, initial_points
from nfn.sine import SineMethod
from nfn.siren import SirenParams
from nfn.stack import StackSpec, linear_trunk
from nfn.symmetry import canonical_siren
from nfn.transformer.inr2array.decoders import additive_decoder, separate_decoder
from nfn.transformer.inr2array.rendering import cell_of_pixels, render_cells
from nfn.transformer_stack import TransformerSpec, attention_trunk
from nfn.trunk import Trunk
from nfn.weights import WeightSpace

PyTree = Any


class AutoencoderSpec(NamedTuple):
    """Sizes of an autoencoder of SIRENs.

    Attributes:
        kind: Trunk of the encoder: nft (attention), np or hnp (linear layers).
        inputs: What is read of a SIREN: its weights or their canonical form.
        num_probes: Learned points at which the SIREN is evaluated, what its neurons pass on there
            being further channels of its weights; 0: none.
        channels: Channels per weight inside the trunk.
        num_blocks: Transformer blocks, or linear layers.
        num_heads: Heads of attention.
        ff_ratio: Inner over outer channels of the feed-forward maps.
        dropout: Rate in the transformer blocks.
        share_ff: Feed-forward maps shared by all tensors.
        use_neurons: Attention between the rows and columns around a layer of neurons.
        use_tensors: Attention between the means of tensors.
        frequencies: Gaussian Fourier frequencies per weight.
        fourier_scale: Standard deviation of these frequencies.
        num_latents: Vectors of an array, M.
        latent_width: Their length, d.
        spatial: Every vector draws its cell of a square grid; else their mean draws all pixels.
        decoder: sitzmann (one MLP per tensor) or additive (one MLP, changes of a learned SIREN).
        decoder_widths: Hidden widths of these MLPs.
        dtype: Compute type of trunk and pool, "float32" or "bfloat16".
        remat: Recompute blocks in the backward pass instead of keeping what is inside them.
    """

    kind: str
    inputs: str
    num_probes: int
    channels: int
    num_blocks: int
    num_heads: int
    ff_ratio: int
    dropout: float
    share_ff: bool
    use_neurons: bool
    use_tensors: bool
    frequencies: int
    fourier_scale: float
    num_latents: int
    latent_width: int
    spatial: bool
    decoder: str
    decoder_widths: tuple[int, ...]
    dtype: str
    remat: bool


class Drawing(NamedTuple):
    """How weights become a picture: side in pixels, frequency, and how to compute the sine."""

    size: int
    omega: float
    sine: SineMethod = "jnp"


class EncoderParams(NamedTuple):
    """Probe points (or None), trunk and pool."""

    probes: Float[Array, "K d"] | None
    trunk: PyTree
    pool: pooling.PerceiverPoolParams


class Encoder(NamedTuple):
    """SIRENs to arrays; weights are params trees with a leading batch axis.

    Attributes:
        init: key -> params.
        apply: (params, weights, statistics, key=None) -> [batch, M, d]; with a `key` dropout is
            on. `statistics` are those of `read` on training networks.
        space: Layout of what is read.
        read: weights -> the features that get normalized and read.
    """

    init: Callable[[PRNGKeyArray], EncoderParams]
    apply: Callable[..., Float[Array, "batch M d"]]
    space: WeightSpace
    read: Callable[[SirenParams], features.Features]


def encoder(space: WeightSpace, spec: AutoencoderSpec, *, drawing: Drawing) -> Encoder:
    """Returns trunk and pool of `spec`: an array that no permutation of hidden neurons changes.

    Source: Zhou et al. (2023b), INR2ARRAY. Canonical inputs and probes are not in the paper.
    """
    trunk = _trunk(space, spec)
    inner = trunk.space

    def init(key: PRNGKeyArray) -> EncoderParams:
        key_trunk, key_pool = jax.random.split(key)
        sizes = {"num_latents": spec.num_latents, "width": spec.latent_width}
        pool = pooling.init_perceiver_pool(key_pool, c_in=trunk.channels, **sizes)
        probes = None
        if spec.num_probes:
            dim = space.tensors[0].shape[0]
            probes = jnp.asarray(initial_points(spec.num_probes, dim))
        return EncoderParams(probes, trunk.init(key_trunk), pool)

    def known_form(weights: SirenParams) -> SirenParams:
        if spec.inputs == "canonical":
            return canonical_siren(weights, omega=drawing.omega)
        return weights

    def read(weights: SirenParams) -> features.Features:
        return features.features_from_params(inner, known_form(weights))

    def apply(
        params: EncoderParams,
        weights: SirenParams,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch M d"]:
        x = encodings.normalize(statistics, read(weights))
        extra = _probed(params.probes, known_form(weights), space=inner, drawing=drawing)
        tokens = pooling.weight_tokens(inner, trunk.apply(params.trunk, x, extra, key))
        array = pooling.perceiver_pool(params.pool, tokens.astype(spec.dtype))
        return array.astype(jnp.float32)

    return Encoder(init, apply, inner, read)


def decoder(space: WeightSpace, spec: AutoencoderSpec, *, drawing: Drawing) -> Network:
    """Returns the decoder: `apply(params, z [batch, M, d]) -> [batch, pixels, c]` in [-1, 1].

    Source: Zhou et al. (2023b), INR2ARRAY: z gives the weights of a SIREN, which is drawn.

    Raises:
        ValueError: If there is no such grid.
    """
    sizes = {"c_in": spec.latent_width, "widths": spec.decoder_widths}
    if spec.decoder == "additive":
        hyper = additive_decoder(space, omega=drawing.omega, **sizes)
    else:
        hyper = separate_decoder(space, **sizes)
    if spec.spatial:
        cell_of_pixels(drawing.size, spec.num_latents)  # refuses what is no grid

    def apply(params: PyTree, z: Float[Array, "batch M d"]) -> Float[Array, "batch pixels c"]:
        # A mean is the only cell of a grid of one.
        z = z if spec.spatial else jnp.mean(z, axis=-2, keepdims=True)
        draw = partial(render_cells, **drawing._asdict())
        return jax.vmap(draw)(hyper.apply(params, z))

    return Network(hyper.init, apply)


def _trunk(space: WeightSpace, spec: AutoencoderSpec) -> Trunk:
    codes = {"frequencies": spec.frequencies, "fourier_scale": spec.fourier_scale}
    memory = {"dtype": spec.dtype, "remat": spec.remat}
    if spec.kind == "nft":
        blocks = TransformerSpec(
            channels=spec.channels,
            num_blocks=spec.num_blocks,
            num_heads=spec.num_heads,
            ff_ratio=spec.ff_ratio,
            dropout=spec.dropout,
            share_ff=spec.share_ff,
            use_neurons=spec.use_neurons,
            use_tensors=spec.use_tensors,
            **codes,
            **memory,
        )
        return attention_trunk(space, blocks, c_extra=spec.num_probes)
    layers = StackSpec(
        kind=spec.kind,
        widths=(spec.channels,) * spec.num_blocks,
        io="none" if spec.kind == "hnp" else "learned",
        layer_norm=True,
        linear_output=True,
        **codes,
        **memory,
    )
    return linear_trunk(space, layers, c_extra=spec.num_probes)


def _probed(
    points: Float[Array, "K d"] | None,
    weights: SirenParams,
    *,
    space: WeightSpace,
    drawing: Drawing,
) -> features.Features | None:
    if points is None:
        return None
    function = {"omega": drawing.omega, "sine": drawing.sine}
    return jax.vmap(partial(activation_channels, points=points, space=space, **function))(weights)
