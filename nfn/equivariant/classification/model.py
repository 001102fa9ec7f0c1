"""Classifiers of SIRENs: equivariant stack, pool and head; and the MLP that knows no symmetry."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import Network, from_linen
from nfn import encodings, features
from nfn.probes import activation_channels, initial_points, sine_invariant_channels
from nfn.readers import MLP, ReaderParams, invariant_reader
from nfn.sine import SineMethod
from nfn.siren import SirenParams
from nfn.stack import StackSpec, linear_trunk, stack_space
from nfn.symmetry import canonical_siren
from nfn.weights import Params, WeightSpace, hidden_only

# Inputs that are a part of the weights; what is left out is 0 for all networks.
PARTS = ("kernels", "biases", "no_last_bias")


class ClassifierSpec(NamedTuple):
    """Sizes of a classifier of weights.

    Attributes:
        kind: np, hnp, pt (equivariant or pointwise layers), mlp, mlp_aug (flat weights).
        inputs: What is read of a SIREN: its weights, their canonical form, channels that are
            invariant under all symmetries of sine neurons, or the first two with probe channels;
            or a part of the weights, one of `PARTS`.
        num_probes: Learned points at which SIRENs are probed, if they are.
        channels: Channels per weight of every equivariant layer.
        num_layers: Number of equivariant layers.
        frequencies: Gaussian Fourier frequencies per weight; 0: the weights themselves.
        fourier_scale: Standard deviation of these frequencies.
        io_bands: Bands of the input/output code of np and pt; 0: no code.
        io_max_frequency: Twice the highest scale of that code.
        head_widths: Hidden widths of the MLP after the pool.
        head_dropout: Dropout rate in that MLP; mlp and mlp_aug have none.
        channel_dropout: Rate at which whole channels are dropped after every layer.
        mlp_widths: Hidden widths of mlp and mlp_aug.
        dtype: Compute type of the equivariant layers, "float32" or "bfloat16".
        remat: Recompute layers in the backward pass instead of keeping their outputs.
    """

    kind: str
    inputs: str
    num_probes: int
    channels: int
    num_layers: int
    frequencies: int
    fourier_scale: float
    io_bands: int
    io_max_frequency: float
    head_widths: tuple[int, ...]
    head_dropout: float
    channel_dropout: float
    mlp_widths: tuple[int, ...]
    dtype: str
    remat: bool

    @property
    def has_probes(self) -> bool:
        """Whether the SIRENs are evaluated at learned points."""
        return self.inputs == "invariant" or self.inputs.endswith("+probes")


class SirenFunction(NamedTuple):
    """What turns weights into a function: frequency of the hidden layers, and how to compute it."""

    omega: float
    sine: SineMethod = "jnp"


class ProbeParams(NamedTuple):
    """Learned points in [-1, 1]^2 and weights of the outputs there."""

    points: Float[Array, "K d_in"]
    readout: Float[Array, "K d_out"]


class ClassifierParams(NamedTuple):
    """Probes (or None) and the reader of `equivariant_classifier`."""

    probes: ProbeParams | None
    reader: ReaderParams


def classifier(
    space: WeightSpace, spec: ClassifierSpec, *, num_classes: int, function: SirenFunction
) -> Network:
    """Returns the network of `spec`: `apply(params, weights, statistics, key=None) -> logits`.

    `weights` is a params tree with a leading batch axis, `statistics` are those of
    `main_features` of training networks; with a `key` dropout is on (and mlp_aug permutes its
    inputs).
    """
    make = vector_classifier if spec.kind in ("mlp", "mlp_aug") else equivariant_classifier
    return make(space, spec, num_classes=num_classes, function=function)


def main_features(
    space: WeightSpace, spec: ClassifierSpec, weights: SirenParams, *, function: SirenFunction
) -> features.Features:
    """Returns the channels that get normalized, in the layout of the classifier's stack."""
    inner = stack_space(space, spec.kind)
    if spec.inputs == "invariant":
        return _invariant(inner, _init_probes(spec, weights), weights, function)
    return features.features_from_params(inner, _weights_read(spec, weights, function))


def kept_part(weights: SirenParams, part: str) -> SirenParams:
    """Returns weights of which only a part is left, zeros in place of the rest.

    Args:
        weights: A params tree of the layers dense_0, dense_1, ...; any leading batch axes.
        part: One of `PARTS`: without any bias, without any kernel, or without the biases of the
            last layer, which are the mean brightness of an image but for what the sines add.
    """
    last = f"dense_{len(weights) - 1}"

    def is_kept(layer: str, leaf: str) -> bool:
        if part == "no_last_bias":
            return (layer, leaf) != (last, "bias")
        return leaf == {"kernels": "kernel", "biases": "bias"}[part]

    return {
        layer: {n: x if is_kept(layer, n) else jnp.zeros_like(x) for n, x in leaves.items()}
        for layer, leaves in weights.items()
    }


def _weights_read(
    spec: ClassifierSpec, weights: SirenParams, function: SirenFunction
) -> SirenParams:
    if spec.inputs in PARTS:
        return kept_part(weights, spec.inputs)
    if spec.inputs.startswith("canonical"):
        return canonical_siren(weights, omega=function.omega)
    return weights


def equivariant_classifier(
    space: WeightSpace, spec: ClassifierSpec, *, num_classes: int, function: SirenFunction
) -> Network:
    """Returns the invariant classifier NFN_NP, NFN_HNP or NFN_PT.

    Source: Zhou et al. (2023a), App. D.3 and Table 14: Fourier features, code of inputs and
    outputs (not for HNP), equivariant layers with ReLU, pool P~ (also after NP, as in the
    released code), MLP. Invariant under permutations of hidden neurons. Probes and canonical
    inputs are not in the paper.
    """
    inner = stack_space(space, spec.kind)
    trunk = linear_trunk(
        space,
        _stack_spec(spec),
        c_in=spec.num_probes if spec.inputs == "invariant" else 1,
        c_extra=spec.num_probes if spec.inputs.endswith("+probes") else 0,
    )
    reader = invariant_reader(
        trunk,
        head_widths=spec.head_widths,
        num_outputs=num_classes,
        head_dropout=spec.head_dropout,
    )

    def init(key: PRNGKeyArray) -> ClassifierParams:
        probes = _init_probes(spec, _kernels_of(space)) if spec.has_probes else None
        return ClassifierParams(probes, reader.init(key))

    def apply(
        params: ClassifierParams,
        weights: SirenParams,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch classes"]:
        weights = _weights_read(spec, weights, function)
        if spec.inputs == "invariant":
            x, extra = _invariant(inner, params.probes, weights, function), None
        else:
            x = features.features_from_params(inner, weights)
            extra = _activations(inner, params.probes, weights, function)
        return reader.apply(params.reader, encodings.normalize(statistics, x), extra, key)

    return Network(init, apply)


def _stack_spec(spec: ClassifierSpec) -> StackSpec:
    has_code = spec.kind != "hnp" and spec.io_bands > 0
    return StackSpec(
        kind=spec.kind,
        widths=(spec.channels,) * spec.num_layers,
        frequencies=0 if spec.inputs == "invariant" else spec.frequencies,
        fourier_scale=spec.fourier_scale,
        io="sinusoidal" if has_code else "none",
        io_bands=spec.io_bands if has_code else 0,
        io_max_frequency=spec.io_max_frequency,
        channel_dropout=spec.channel_dropout,
        dtype=spec.dtype,
        remat=spec.remat,
    )


def _kernels_of(space: WeightSpace) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Returns the kernel shapes of one network of the space."""
    return {
        spec.path.removesuffix("/kernel"): {"kernel": jax.ShapeDtypeStruct(spec.shape, jnp.float32)}
        for spec in space.tensors
        if spec.path.endswith("/kernel")
    }


def _init_probes(spec: ClassifierSpec, weights: Params) -> ProbeParams:
    """Returns evenly spread points and the sum of all outputs; the layers are dense_0, ..."""
    d_in = weights["dense_0"]["kernel"].shape[-2]
    d_out = weights[f"dense_{len(weights) - 1}"]["kernel"].shape[-1]
    points = jnp.asarray(initial_points(spec.num_probes, d_in))
    return ProbeParams(points, jnp.ones((spec.num_probes, d_out)))


def _invariant(
    space: WeightSpace, probes: ProbeParams | None, weights: SirenParams, function: SirenFunction
) -> features.Features:
    assert probes is not None

    def one(params: SirenParams) -> features.Features:
        return sine_invariant_channels(
            params, probes.points, probes.readout, space=space, **function._asdict()
        )

    return jax.vmap(one)(weights)


def _activations(
    space: WeightSpace, probes: ProbeParams | None, weights: SirenParams, function: SirenFunction
) -> features.Features | None:
    if probes is None:
        return None

    def one(params: SirenParams) -> features.Features:
        return activation_channels(params, probes.points, space=space, **function._asdict())

    return jax.vmap(one)(weights)


def vector_classifier(
    space: WeightSpace, spec: ClassifierSpec, *, num_classes: int, function: SirenFunction
) -> Network:
    """Returns the baseline MLP on the flat weights, MLP_Aug if its training inputs are permuted.

    Source: Zhou et al. (2023a), App. D.3: 3 layers of 1000 units; in training MLP_Aug sees every
    network under random permutations of its hidden neurons. (The released config puts a sigmoid
    before the softmax, which weakens the baseline; not done here.)

    Raises:
        ValueError: If inputs other than (canonical) weights are asked for.
    """
    if spec.has_probes:
        raise ValueError(
            f"config.model.inputs={spec.inputs!r}: kind {spec.kind} reads weights or canonical"
        )
    hidden = hidden_only(space)
    network = from_linen(
        MLP(spec.mlp_widths, num_classes),
        jax.ShapeDtypeStruct((1, space.size), jnp.float32),
    )

    def apply(
        params: Params,
        weights: SirenParams,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch classes"]:
        x = main_features(space, spec, weights, function=function)
        x = encodings.normalize(statistics, x)
        if key is not None and spec.kind == "mlp_aug":
            x = features.permute_each(key, hidden, features.refold(space, hidden, x))
            x = features.refold(hidden, space, x)
        return network.apply(params, features.vector_from_features(space, x))

    return Network(network.init, apply)
