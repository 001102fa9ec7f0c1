"""How far apart Fourier features keep the weights of SIRENs: what a reader can tell apart."""

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from nfn import encodings
from nfn.equivariant.classification.model import ClassifierSpec, SirenFunction, main_features
from nfn.stack import stack_space
from nfn.tasks import sirens


def phases(config: ConfigDict) -> dict[str, float]:
    """Returns the spread of what goes into sine and cosine of the Fourier features, in radians.

    A weight w becomes sin and cos of 2 pi w B with B of deviation `fourier_scale`. Weights of one
    tensor whose phases differ by far less than a radian have nearly the same features.

    Returns:
        "phase": 2 pi fourier_scale times the deviation of a weight within its tensor over training
        networks, the root mean square over all weights; "phase_least": that of the tensor with the
        least.
    """
    spec, model = sirens.siren_set_spec(config.data), ClassifierSpec(**config.model.to_dict())
    space, function = sirens.siren_space(spec), SirenFunction(spec.omega, spec.sine)
    inner = stack_space(space, model.kind)

    def read(params: sirens.PyTree) -> dict[str, jax.Array]:
        return main_features(space, model, params, function=function)

    statistics = sirens.statistics_of(read, inner, normalize=config.data.normalize)
    data = sirens.siren_data(spec, statistics)
    rows = slice(sirens.STATISTICS_ROWS)
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[rows]), data["train"]["params"])
    x = encodings.normalize(jax.tree.map(jnp.asarray, data["statistics"]), read(first))
    spreads = encodings.normalization_statistics(x, space=inner).std
    squares = {path: float(jnp.mean(std**2)) for path, std in spreads.items()}
    sizes = {tensor.path: math.prod(tensor.shape) for tensor in space.tensors}
    per_radian = 2 * math.pi * config.model.fourier_scale
    mean = sum(squares[path] * sizes[path] for path in squares) / sum(sizes.values())
    return {
        "phase": float(per_radian * mean**0.5),
        "phase_least": float(per_radian * min(squares.values()) ** 0.5),
    }
