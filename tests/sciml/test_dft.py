"""Truncated transforms as matrix products: the same numbers as NumPy's FFT, in any dimension."""

from functools import partial

import jax
import numpy as np
import pytest

from sciml import dft
from sciml.initialization import draw
from sciml.spectral import check_modes, init_spectral, spectral_kernel

# Of the first two all frequencies that an odd first axis and an odd second one have.
GRIDS = [((15,), (8,)), ((9, 7), (5, 3)), ((10, 9, 8), (4, 3, 2))]


def numpy_convolution(params, field: np.ndarray) -> np.ndarray:
    """Returns the FNO's layer by definition: FFT, multiply the kept modes, inverse FFT."""
    multipliers = np.asarray(params.re, complex) + 1j * np.asarray(params.im, complex)
    axes = multipliers.ndim - 2
    spectrum = np.fft.rfft(field, axis=0)
    for axis in range(1, axes):
        spectrum = np.fft.fft(spectrum, axis=axis)
    kept = [np.arange(multipliers.shape[0])]
    for axis in range(1, axes):
        m = multipliers.shape[axis] // 2
        kept.append(np.r_[0:m, -m:0])
    out = np.zeros((*spectrum.shape[:-1], multipliers.shape[-1]), complex)
    out[np.ix_(*kept)] = np.einsum("...bi,...io->...bo", spectrum[np.ix_(*kept)], multipliers)
    for axis in range(1, axes):
        out = np.fft.ifft(out, axis=axis)
    return np.fft.irfft(out, n=field.shape[0], axis=0)


@pytest.mark.parametrize(("grid", "modes"), GRIDS, ids=str)
def test_a_spectral_layer_is_the_fft_form_of_the_fno(grid, modes) -> None:
    key_params, key_field = jax.random.split(jax.random.key(0))
    params = draw(key_params, partial(init_spectral, modes=modes, c_in=2, c_out=3))
    params = jax.tree.map(lambda x: x - 0.05, params)  # both signs
    field = jax.random.normal(key_field, (*grid, 2, 2))

    @jax.jit
    def convolved(params, field):
        kernel = spectral_kernel(params, grid)
        return kernel.evaluate(kernel.analyse(field))

    ours = convolved(params, field)

    wanted = numpy_convolution(params, np.asarray(field, np.float64))
    # float32 sums over the grid: some units in the last place of the largest value.
    np.testing.assert_allclose(ours, wanted, atol=3e-6 * np.abs(wanted).max())


def test_band_limited_fields_survive_the_transform_and_others_lose_the_rest() -> None:
    x = np.arange(24) / 24
    kept, lost = np.cos(2 * np.pi * 3 * x), np.sin(2 * np.pi * 7 * x)
    field = (kept + lost)[:, None, None].astype(np.float32)

    back = jax.jit(lambda u: dft.inverse(dft.forward(u, (5,)), (24,)))(field)

    # float32 sums of 24 terms of size 2, twice.
    np.testing.assert_allclose(back[:, 0, 0], kept, atol=5e-6)


@pytest.mark.parametrize(
    ("points", "modes", "is_half"), [(10, 6, True), (15, 9, True), (10, 5, False), (8, 0, True)]
)
def test_a_grid_that_cannot_tell_the_modes_apart_is_refused(points, modes, is_half) -> None:
    with pytest.raises(
        ValueError, match=f"{modes} Fourier modes on a grid axis of {points} points"
    ):
        check_modes(points, modes, is_half=is_half)
