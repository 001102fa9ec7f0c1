"""SIRENs: networks that are images, sin(omega (W x + b)) layer by layer, fitted by the thousand.

Params are the plain dicts of Flax, {"dense_0": {"kernel": [in, out], "bias": [out]}, ...}; a
stack of n networks has leaves [n, ...]. Pixel values are scaled from [0, 1] to [-1, 1].
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from common.errors import NumericalError
from common.sharding import make_mesh
from nfn.sine import SineMethod
from nfn.sine import sine as sine_of
from nfn.weights import WeightSpace, space_from_params

SirenParams = dict[str, dict[str, Float[Array, "..."]]]
StackedParams = dict[str, dict[str, Float[np.ndarray, "n ..."]]]
Schedule = Literal["cosine", "constant"]
OnChunk = Callable[[int, int], None]


class FittedSirens(NamedTuple):
    """Networks fitted to n images, and how well each one reproduces its image.

    `mse` is in units of the [-1, 1] scale; `psnr` = 10 log10(4 / mse) in dB is that of the image.
    """

    params: StackedParams
    mse: Float[np.ndarray, " n"]
    psnr: Float[np.ndarray, " n"]


def init_siren(key: PRNGKeyArray, *, widths: Sequence[int], omega: float) -> SirenParams:
    """Draws a SIREN with layers of `widths`, (2, 32, 32, 1) for gray images.

    Source: Zhou et al. (2023a), App. D.3 and released code: W_1 ~ U(±1 / n_0), W_i ~ U(±sqrt(6 /
    n_(i-1)) / omega) for i > 1, every b_i ~ U(±1 / sqrt(n_(i-1))).
    """
    params = {}
    for layer, (d_in, d_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        key, key_kernel, key_bias = jax.random.split(key, 3)
        bound = 1 / d_in if layer == 0 else math.sqrt(6 / d_in) / omega
        kernel = jax.random.uniform(
            key_kernel, (d_in, d_out), jnp.float32, minval=-bound, maxval=bound
        )
        bound = 1 / math.sqrt(d_in)
        bias = jax.random.uniform(key_bias, (d_out,), jnp.float32, minval=-bound, maxval=bound)
        params[f"dense_{layer}"] = {"kernel": kernel, "bias": bias}
    return params


def siren(
    params: SirenParams,
    coordinates: Float[Array, "*batch d_in"],
    *,
    omega: float,
    sine: SineMethod = "jnp",
) -> Float[Array, "*batch d_out"]:
    """Returns pixel values in the [-1, 1] scale: x <- sin(omega (W x + b)), last layer linear.

    Source: Sitzmann et al. (2020), Sec. 3, with the frequency in every hidden layer.

    Args:
        params: One network; `jax.vmap` for a stack.
        coordinates: Points of [-1, 1]^2, see `coordinate_grid`.
        omega: Frequency that all hidden layers share, 30 in the paper.
        sine: How to compute it, see `nfn.sine`.
    """
    x = _affine_thin(params["dense_0"], coordinates)
    for layer in range(1, len(params)):
        x = _affine(params[f"dense_{layer}"], sine_of(omega * x, sine))
    return x


def coordinate_grid(height: int, width: int | None = None) -> Float[Array, "pixels 2"]:
    """Returns (row, column) of every pixel in [-1, 1]^2, row by row; `width` = `height` if None.

    The centers of the corner pixels lie on the corners of the square (linspace(-1, 1, n), as in
    the released code), so the spacing is 2 / (n - 1) and one SIREN renders at any size.
    """
    rows = np.linspace(-1, 1, height, dtype=np.float32)
    columns = np.linspace(-1, 1, width or height, dtype=np.float32)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return jnp.asarray(grid.reshape(-1, 2))


def fit_siren(
    key: PRNGKeyArray,
    image: Num[Array, "h w *c"],
    *,
    widths: Sequence[int],
    omega: float,
    steps: int,
    optimizer: optax.GradientTransformation,
    sine: SineMethod = "jnp",
) -> tuple[SirenParams, Float[Array, ""]]:
    """Returns a SIREN drawn from `key` and fitted to one image, and its last mean square error.

    Source: Zhou et al. (2023a), App. D.3, where the optimizer is Adam.

    Every step sees all pixels. Valid under `jax.vmap` and `lax.map`; `fit_sirens` fits many.
    """
    coordinates = coordinate_grid(*image.shape[:2])
    scale = 255.0 if image.dtype == jnp.uint8 else 1.0
    targets = image.reshape(len(coordinates), -1).astype(jnp.float32) / scale * 2 - 1

    def loss(params: SirenParams) -> jax.Array:
        return jnp.mean((siren(params, coordinates, omega=omega, sine=sine) - targets) ** 2)

    def step(state: tuple[Any, optax.OptState], _: None) -> tuple[tuple[Any, Any], None]:
        params, opt_state = state
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    params = init_siren(key, widths=widths, omega=omega)
    (params, _), _ = lax.scan(step, (params, optimizer.init(params)), None, length=steps)
    return params, loss(params)


def fit_sirens(
    images: np.ndarray,
    *,
    widths: Sequence[int],
    omega: float,
    steps: int,
    learning_rate: float,
    schedule: Schedule = "cosine",
    seed: int = 0,
    first: int = 0,
    chunk: int = 32,
    sine: SineMethod = "polynomial",
    on_chunk: OnChunk | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> FittedSirens:
    """Fits one independently drawn SIREN to each image: Adam on the mean square over all pixels.

    Network i is `fit_siren` with the key of `seed` into which i is folded. It has the same bits
    for any number of devices and whatever the other images are. Another `chunk` is another
    program: it rounds differently, and the steps of a long fit amplify that.

    Args:
        images: [n, h, w] or [n, h, w, c]; uint8, or float in [0, 1].
        widths: Layer sizes from 2 coordinates to 1 or c channels.
        omega: Frequency, see `siren`.
        steps: Number of Adam steps.
        learning_rate: Of Adam, at the first step.
        schedule: "cosine" takes the learning rate to 0 at the last step.
        seed: Of the initializations.
        first: Number of the first network, for a piece of a larger set; the same bits as in the
            whole if it is a multiple of `chunk`.
        chunk: Networks under one vmap, the same for every device; the last chunk is padded.
        sine: How to compute it, see `nfn.sine`.
        on_chunk: Called as on_chunk(done, n) whenever more networks are done.
        devices: Over which chunks are distributed; all of this process if None.

    Raises:
        ValueError: If images and widths do not fit together.
        NumericalError: If a fit diverges.
    """
    _check_images(images, widths)
    devices = jax.local_devices() if devices is None else devices
    fit = partial(
        fit_siren,
        widths=tuple(widths),
        omega=omega,
        steps=steps,
        optimizer=optax.adam(_schedule(schedule, learning_rate, steps)),
        sine=sine,
    )
    params, mse = _fit_groups(fit, images, jax.random.key(seed), first, chunk, devices, on_chunk)
    if not np.isfinite(mse).all():
        raise NumericalError(
            f"{np.sum(~np.isfinite(mse))} of {len(mse)} SIRENs diverged, the first is network "
            f"{np.argmin(np.isfinite(mse))}; lower learning_rate={learning_rate}"
        )
    psnr = 10 * np.log10(4 / np.maximum(mse, np.finfo(np.float32).tiny))
    return FittedSirens(params, mse, psnr)


def siren_space(widths: Sequence[int]) -> WeightSpace:
    """Returns the weight space of the params of a SIREN with layers of `widths`."""
    params = jax.eval_shape(lambda: init_siren(jax.random.key(0), widths=widths, omega=1.0))
    return space_from_params(params, order=[f"dense_{i}" for i in range(len(params))])


def render(
    params: SirenParams | StackedParams,
    size: int | tuple[int, int],
    *,
    omega: float,
    sine: SineMethod = "jnp",
) -> Float[np.ndarray, "n h w *c"]:
    """Returns the images of a stack of SIRENs, values clipped to [0, 1]; gray without channels.

    Args:
        params: Stacked networks, leaves [n, ...].
        size: Height and width of the images in pixels; one number if they are square.
        omega: Frequency, see `siren`.
        sine: How to compute it, see `nfn.sine`.
    """
    height, width = size if isinstance(size, tuple) else (size, size)
    coordinates = coordinate_grid(height, width)
    network = partial(siren, coordinates=coordinates, omega=omega, sine=sine)
    values = np.asarray(jax.vmap(lambda p: network(p))(jax.tree.map(jnp.asarray, params)))
    images = np.clip(values / 2 + 0.5, 0, 1).reshape(len(values), height, width, -1)
    return images[..., 0] if images.shape[-1] == 1 else images


def _affine(
    layer: dict[str, jax.Array], x: Float[Array, "*batch d_in"]
) -> Float[Array, "*batch d_out"]:
    # Phases reach tens of radians: the default precision of accelerators would be noise.
    h = jnp.matmul(x, layer["kernel"], precision=lax.Precision.HIGHEST)
    return h + jnp.broadcast_to(layer["bias"], h.shape)


def _affine_thin(
    layer: dict[str, jax.Array], x: Float[Array, "*batch d_in"]
) -> Float[Array, "*batch d_out"]:
    """As `_affine`, for few inputs: XLA:CPU fits 1.4 to 1.9 times as fast without the matmul."""
    kernel, bias = layer["kernel"], layer["bias"]
    products = x[..., None] * jnp.broadcast_to(kernel, (*x.shape, kernel.shape[-1]))
    h = jnp.sum(products, axis=-2)
    return h + jnp.broadcast_to(bias, h.shape)


def _fit_groups(
    fit: Callable[[PRNGKeyArray, jax.Array], tuple[SirenParams, jax.Array]],
    images: np.ndarray,
    key: PRNGKeyArray,
    first: int,
    chunk: int,
    devices: Sequence[jax.Device],
    on_chunk: OnChunk | None,
) -> tuple[StackedParams, Float[np.ndarray, " n"]]:
    """Fits one chunk a device at a time, by one compiled program."""

    def fit_chunk(
        key: PRNGKeyArray, index: Int[Array, " chunk"], images: jax.Array
    ) -> tuple[SirenParams, jax.Array]:
        return jax.vmap(lambda i, image: fit(jax.random.fold_in(key, i), image))(index, images)

    split = PartitionSpec("member")
    fit_group = jax.jit(
        jax.shard_map(
            fit_chunk,
            mesh=make_mesh({"member": -1}, devices),
            in_specs=(PartitionSpec(), split, split),
            out_specs=split,
            check_vma=False,  # Adam's zero moments start equal on all devices, then differ
        )
    )
    n, fitted = len(images), []
    for start in range(0, n, chunk * len(devices)):
        index = np.arange(start, start + chunk * len(devices), dtype=np.int32)
        rows = images[np.minimum(index, n - 1)]
        fitted.append(jax.device_get(fit_group(key, first + index, rows)))
        if on_chunk is not None:
            on_chunk(min(n, start + len(index)), n)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *fitted)


def _schedule(schedule: Schedule, learning_rate: float, steps: int) -> optax.Schedule:
    if schedule == "cosine":
        return optax.cosine_decay_schedule(learning_rate, steps)
    if schedule == "constant":
        return optax.constant_schedule(learning_rate)
    raise ValueError(f"no schedule {schedule!r} for SIRENs; allowed: cosine, constant")


def _check_images(images: np.ndarray, widths: Sequence[int]) -> None:
    channels = images.shape[3] if images.ndim == 4 else 1
    if images.ndim not in (3, 4) or not len(images):
        raise ValueError(f"images of shape {images.shape}; wanted [n, h, w] or [n, h, w, c], n > 0")
    if len(widths) < 2 or widths[0] != 2 or widths[-1] != channels:
        raise ValueError(
            f"widths={tuple(widths)}: a SIREN of images with {channels} channels goes from 2 to "
            f"{channels}, as (2, 32, 32, {channels})"
        )
    if images.dtype != np.uint8 and not (
        np.issubdtype(images.dtype, np.floating) and images.min() >= 0 and images.max() <= 1
    ):
        raise ValueError(
            f"images of {images.dtype} from {images.min()} to {images.max()}; wanted uint8, or "
            "float in [0, 1]"
        )
