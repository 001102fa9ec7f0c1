"""Random keys of a run."""

import jax
import numpy as np
import pytest

from common.keys import split_apart


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_apart_are_those_of_split(impl: str) -> None:
    one, same = (jax.random.key(3, impl=impl) for _ in range(2))

    found = split_apart(one, 4)

    wanted = np.asarray(jax.random.key_data(jax.random.split(same, 4)))
    assert [jax.random.key_impl(each) for each in found] == [jax.random.key_impl(one)] * 4
    np.testing.assert_array_equal([jax.random.key_data(each) for each in found], wanted)
    assert len(np.unique(wanted, axis=0)) == 4
