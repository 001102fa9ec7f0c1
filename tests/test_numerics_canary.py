"""A wrong XLA:CPU backend turns this file red at once: why jax is pinned, and never 0.10.2."""

import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

pytestmark = [pytest.mark.smoke, pytest.mark.optimized]  # what users run is what may be wrong
# jax issue 39103: in 0.10.2 the last row of just these batch sizes came out wrong under jit.
AFFECTED = [("float64", 16_385), ("float32", 32_769)]


@pytest.mark.parametrize(("dtype", "rows"), AFFECTED)
def test_vmapped_matvec_then_sum_of_squares_agrees_with_numpy_in_every_row(
    dtype: str, rows: int
) -> None:
    with jax.enable_x64(dtype == "float64"):
        matrix = np.arange(1.0, 10.0, dtype=dtype).reshape(3, 3) / 10
        x = np.random.default_rng(0).uniform(0.5, 1.5, (rows, 3)).astype(dtype)

        norms = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.asarray(matrix) @ row) ** 2)))(x)

        assert norms.dtype == dtype
        expected = np.sum((x.astype(np.float64) @ matrix.astype(np.float64).T) ** 2, axis=-1)
        # All terms are positive: nothing cancels, and the error stays at a few units in the last
        # place of each row.
        np.testing.assert_allclose(
            np.asarray(norms), expected, rtol=32 * float(np.finfo(dtype).eps)
        )


def test_the_installed_backend_is_the_pinned_one() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    pins = tomllib.loads(text)["project"]["dependencies"]
    stack = ">=" if sys.version_info >= (3, 12) else "<"  # which of the two pins is this Python's

    for package in (jax, jaxlib):
        pin = f"{package.__name__}=={package.__version__}; python_version {stack} '3.12'"
        assert pin in pins
